"""The last node of the generation pipeline: the set's card and its sheet of samples."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pandas as pd

from gmail_kedro.decoding import decode_image
from gmail_kedro.interfaces import Corpus, ImageSource
from gmail_kedro.params import GenerationParams
from gmail_kedro.records.finished import FinishedSet
from gmail_kedro.records.plan import hash_plan
from gmail_kedro.records.set_statistics import measure_pictures, set_statistics, spread
from gmail_kedro.records.stored import StoredImages
from gmail_kedro.reporting.contact_sheet import SheetCell, draw_contact_sheet
from gmail_kedro.reporting.set_card import set_card, set_card_page

SAMPLE_COUNT = 12
SHEET_FILE = "samples.png"


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
    from gmail_kedro.zoo.generators import GENERATORS, generator_files, generator_revision

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
    return set_card(
        finished.name, generator=generator, settings=description.settings, hashes=hashes, statistics=statistics
    )


def draw_samples(finished: FinishedSet, photographs: ImageSource | None, count: int) -> Any:
    """Returns a contact sheet of pictures evenly spread over the set, a matplotlib ``Figure``.

    Args:
        finished: The set.
        photographs: The corpus's photographs, or None to leave them out.
        count: How many pictures; fewer if the set has fewer.
    """
    cells = [
        SheetCell(
            photograph=None
            if photographs is None
            else decode_image(photographs.read(row["image_id"]), name=row["image_id"]),
            picture=decode_image(finished.images.read(row["key"]), name=row["key"]),
            caption=row["prompt"],
        )
        for row in spread(finished.made.to_dict("records"), count)
    ]
    maker = finished.images.description.settings["generator"]
    return draw_contact_sheet(cells, f"{finished.name}: {len(finished.made):,} pictures by {maker}")
