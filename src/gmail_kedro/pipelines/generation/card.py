"""The last node of the generation pipeline: the set's card and its sheet of samples."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from gmail_kedro.generated_sets.advice import remake
from gmail_kedro.generated_sets.checksums import with_checksum, without_checksum
from gmail_kedro.generated_sets.finished import UNREADABLE_FILE, FinishedSet
from gmail_kedro.generated_sets.plan import hash_plan
from gmail_kedro.generated_sets.set_statistics import measure_pictures, set_statistics, spread
from gmail_kedro.generated_sets.shard_check import Problem
from gmail_kedro.generated_sets.stored import StoredImages
from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import Corpus, ImageSource
from gmail_kedro.params.generation import GenerationParams
from gmail_kedro.reporting.contact_sheet import SheetCell, draw_contact_sheet
from gmail_kedro.reporting.set_card import set_card, set_card_page

SAMPLE_COUNT = 12
CARD_FILE, PAGE_FILE, SHEET_FILE = "card.json", "README.md", "samples.png"


def write_set_card(
    corpus: Corpus, generated_manifest: pd.DataFrame, generated_images: StoredImages, params: GenerationParams
) -> tuple[dict[str, Any], str, Any]:
    """Returns the set's card as JSON values and as Markdown, and its sheet of samples, a matplotlib ``Figure``.

    Args:
        corpus: The captioned photographs.
        generated_manifest: The pictures that were made.
        generated_images: The finished set.
        params: The generator and where its weights are.
    """
    finished = FinishedSet(generated_images.folder.parent, generated_images, generated_manifest)
    card = card_of(finished, describe_generator(finished, params))
    return card, set_card_page(card, sheet=SHEET_FILE), draw_samples(finished, corpus.images, SAMPLE_COUNT)


def describe_generator(finished: FinishedSet, params: GenerationParams) -> dict[str, Any]:
    """Returns the card's entry about the generator: name, licence, revision and the hash of each weight file.

    Args:
        finished: The set; its revision is recorded.
        params: Which generator, and where its weights are.

    Raises:
        ValueError: If the weights there are not the ones that made the set.
    """
    from gmail_kedro.models.generators.known_generators import GENERATORS, generator_files, generator_revision

    revision, recorded = (
        generator_revision(params.generator, params.generator_path),
        finished.images.description.settings,
    )
    if recorded["revision"] != revision:
        raise ValueError(
            f"The set {finished.name!r} was made by weights of revision {recorded['revision'][:12]}…; those of "
            f"{params.generator!r} here are {revision[:12]}…. Set generation.generator_path to the ones that made it."
        )
    return {
        "name": params.generator,
        "licence": GENERATORS[params.generator].licence,
        "revision": revision,
        "weights": generator_files(params.generator, params.generator_path),
    }


def card_of(finished: FinishedSet, generator: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the card of a finished set; its pictures are looked at for it.

    Args:
        finished: The set.
        generator: As ``describe_generator`` returns it.
    """
    statistics = set_statistics(finished, measure_pictures(finished.images, finished.made["key"].tolist()))
    pictures = hashlib.sha256("\n".join(finished.manifest["sha256"].dropna().tolist()).encode()).hexdigest()
    description = finished.images.description
    hashes = {"set": description.fingerprint, "plan": hash_plan(finished.manifest, {}), "pictures": pictures}
    if (left_out := finished.folder / UNREADABLE_FILE).is_file():
        hashes[UNREADABLE_FILE] = hashlib.sha256(left_out.read_bytes()).hexdigest()
    card = set_card(
        finished.name, generator=generator, settings=description.settings, hashes=hashes, statistics=statistics
    )
    return with_checksum(card)


def read_card(folder: Path) -> dict[str, Any]:
    """Returns the card of the set in a folder.

    Raises:
        FileNotFoundError: If it has none.
        ValueError: If it is not what was written.
    """
    path = Path(folder) / CARD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"expected a JSON object, found a {type(content).__name__}")
        return without_checksum(content)
    except ValueError as error:
        raise ValueError(f"The card {path} is damaged: {error}. {_write_again(folder)}") from error


def check_card(folder: Path) -> Iterator[Problem]:
    """Yields which of the files that a person reads beside a set are not those that its card was written with.

    Args:
        folder: Home of the set; one without a card has nothing to check.
    """
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
        yield Problem(SHEET_FILE, f"it is no whole picture ({error})", _write_again(folder))


def _write_again(folder: Path) -> str:
    return f"Write it again: gmail-kedro set card {Path(folder).name}"


def _bytes_of(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def draw_samples(finished: FinishedSet, photographs: ImageSource | None, count: int) -> Any:
    """Returns a contact sheet of pictures evenly spread over the set, a matplotlib ``Figure``.

    Args:
        finished: The set.
        photographs: The corpus's photographs, or None to leave them out.
        count: How many pictures; fewer if the set has fewer.
    """
    cells = [
        SheetCell(
            real=None if photographs is None else decode_image(photographs.read(row["image_id"]), name=row["image_id"]),
            generated=decode_image(finished.images.read(row["key"]), name=row["key"]),
            caption=row["prompt"],
        )
        for row in spread(finished.made.to_dict("records"), count)
    ]
    maker = finished.images.description.settings["generator"]
    return draw_contact_sheet(cells, f"{finished.name}: {len(finished.made):,} pictures by {maker}")
