"""A finished set of painted images, as the generation pipeline leaves it."""

from pathlib import Path

import pandas as pd

from gmail_kedro.generated_sets.block_tables import write_parquet
from gmail_kedro.generated_sets.manifest import build_manifest
from gmail_kedro.generated_sets.set_folder import (
    CAPTIONS_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    SHARD_FOLDER,
    GeneratedSet,
    open_set,
)
from gmail_kedro.generated_sets.stored_images import ShardImages, read_description

from .painting import generate, make_captions, make_work


def make_set(folder: Path, captions: pd.DataFrame | None = None, **changes: object) -> GeneratedSet:
    """Makes a set from ``make_captions()``; ``changes`` go into the generation parameters."""
    captions = make_captions() if captions is None else captions
    work = make_work(captions, **changes)
    generate(work, folder / SHARD_FOLDER)
    images = ShardImages(folder / SHARD_FOLDER, read_description(folder / SHARD_FOLDER))
    write_parquet(folder / CAPTIONS_FILE, captions)
    write_parquet(folder / PLAN_FILE, work.plan)
    write_parquet(folder / MANIFEST_FILE, build_manifest(work.plan, images))
    return open_set(folder)
