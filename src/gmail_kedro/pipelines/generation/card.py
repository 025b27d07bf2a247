"""The last node of the generation pipeline: the set's card and its sheet of samples."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from gmail_kedro.generated_sets.plan import hash_plan
from gmail_kedro.generated_sets.set_folder import UNREADABLE_FILE, GeneratedSet
from gmail_kedro.generated_sets.set_statistics import measure_images, set_statistics, spread
from gmail_kedro.generated_sets.shard_format import remake
from gmail_kedro.generated_sets.stored_images import ShardImages
from gmail_kedro.generated_sets.verify import Problem
from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import Corpus, ImageSource
from gmail_kedro.params.generation import GenerationParams
from gmail_kedro.reporting.contact_sheet import SheetCell, draw_contact_sheet
from gmail_kedro.reporting.set_card import set_card, set_card_page
from gmail_kedro.whole_files import refuse_changed

SAMPLE_COUNT = 12
CARD_FILE, PAGE_FILE, SHEET_FILE = "card.json", "README.md", "samples.png"


def write_set_card(
    corpus: Corpus, generated_manifest: pd.DataFrame, generated_images: ShardImages, params: GenerationParams
) -> tuple[dict[str, Any], str, Any]:
    """Returns the set's card as JSON values and as Markdown, and its sheet of samples, a matplotlib ``Figure``.

    Args:
        corpus: The captioned real images.
        generated_manifest: The images that were made.
        generated_images: The set.
        params: The generator and where its weights are.
    """
    generated_set = GeneratedSet(generated_images.folder.parent, generated_images, generated_manifest)
    card = card_of(generated_set, describe_generator(generated_set, params))
    return card, set_card_page(card, sheet=SHEET_FILE), draw_samples(generated_set, corpus.images, SAMPLE_COUNT)


def describe_generator(generated_set: GeneratedSet, params: GenerationParams) -> dict[str, Any]:
    """Returns the card's entry about the generator: name, licence, revision and the hash of each weight file.

    Raises:
        ValueError: If the weights that the parameters name are not the ones that made the set.
    """
    from gmail_kedro.models.generators.known_generators import GENERATORS, generator_files, generator_revision

    revision, recorded = (
        generator_revision(params.generator, params.generator_path),
        generated_set.images.description.settings,
    )
    if recorded["revision"] != revision:
        raise ValueError(
            f"The set {generated_set.name!r} was made by weights of revision {recorded['revision'][:12]}…; those of "
            f"{params.generator!r} here are {revision[:12]}…. Set generation.generator_path to the ones that made it."
        )
    return {
        "name": params.generator,
        "licence": GENERATORS[params.generator].licence,
        "revision": revision,
        "weights": generator_files(params.generator, params.generator_path),
    }


def card_of(generated_set: GeneratedSet, generator: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the card of a set, with the generator's entry given; its images are looked at for it."""
    statistics = set_statistics(generated_set, measure_images(generated_set.images, generated_set.made["key"].tolist()))
    images = hashlib.sha256("\n".join(generated_set.manifest["sha256"].dropna().tolist()).encode()).hexdigest()
    description = generated_set.images.description
    hashes = {"set": description.fingerprint, "plan": hash_plan(generated_set.manifest, {}), "pictures": images}
    if (left_out := generated_set.folder / UNREADABLE_FILE).is_file():
        hashes[UNREADABLE_FILE] = hashlib.sha256(left_out.read_bytes()).hexdigest()
    return set_card(
        generated_set.name, generator=generator, settings=description.settings, hashes=hashes, statistics=statistics
    )


def read_card(folder: Path) -> dict[str, Any]:
    """Returns the card of the set in a folder.

    Raises:
        FileNotFoundError: If it has none.
        ValueError: If it is not what was written.
    """
    path = Path(folder) / CARD_FILE
    try:
        refuse_changed(path)
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"expected a JSON object, found a {type(content).__name__}")
        return {name: value for name, value in content.items() if name != "sha256"}  # its own, of an earlier version
    except ValueError as error:  # of JSON, or a DamagedFileError
        raise ValueError(f"The card {path} is damaged: {error}. {_write_again(folder)}") from error


def check_card(folder: Path) -> Iterator[Problem]:
    """Yields which of the files that a person reads beside a set are not those that its card was written with."""
    folder = Path(folder)
    try:
        card = read_card(folder)
    except FileNotFoundError:
        return
    except ValueError as error:
        yield Problem(CARD_FILE, str(error), _write_again(folder))
        return
    if _bytes_of(folder / PAGE_FILE) != set_card_page(card, sheet=SHEET_FILE).encode():
        yield Problem(PAGE_FILE, "it is not the page of the set's card", _write_again(folder))
    wanted = card["hashes"].get(UNREADABLE_FILE)
    if wanted and hashlib.sha256(_bytes_of(folder / UNREADABLE_FILE)).hexdigest() != wanted:
        yield Problem(UNREADABLE_FILE, "it is not the one that the card names", f"Make it again: {remake(folder)}")
    try:
        with Image.open(folder / SHEET_FILE) as sheet:
            sheet.verify()  # every part of a PNG has a checksum
    except (OSError, SyntaxError, ValueError) as error:  # Pillow has no error of its own
        yield Problem(SHEET_FILE, f"it is no whole image ({error})", _write_again(folder))


def _write_again(folder: Path) -> str:
    return f"Write it again: gmail-kedro set card {Path(folder).name}"


def _bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def draw_samples(generated_set: GeneratedSet, real_images: ImageSource | None, count: int) -> Any:
    """Returns a contact sheet of images evenly spread over the set, with real images if given, as a ``Figure``."""
    cells = [
        SheetCell(
            real=None if real_images is None else decode_image(real_images.read(row["image_id"]), name=row["image_id"]),
            generated=decode_image(generated_set.images.read(row["key"]), name=row["key"]),
            caption=row["prompt"],
        )
        for row in spread(generated_set.made.to_dict("records"), count)
    ]
    maker = generated_set.images.description.settings["generator"]
    return draw_contact_sheet(cells, f"{generated_set.name}: {len(generated_set.made):,} images by {maker}")
