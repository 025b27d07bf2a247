"""A finished set of painted pictures, as the generation pipeline leaves it."""

from pathlib import Path

import pandas as pd

from gmail_kedro.generated_sets.checksums import write_parquet
from gmail_kedro.generated_sets.finished import (
    CAPTIONS_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    SHARD_FOLDER,
    FinishedSet,
    open_set,
)
from gmail_kedro.generated_sets.generate import generate_shards
from gmail_kedro.generated_sets.manifest import build_manifest
from gmail_kedro.generated_sets.stored import StoredImages, read_description

from .painting import make_captions, make_work


def make_set(folder: Path, captions: pd.DataFrame | None = None, **changes: object) -> FinishedSet:
    """Makes a set from ``make_captions()``; ``changes`` go into the generation parameters."""
    captions = make_captions() if captions is None else captions
    work = make_work(captions, **changes)
    generate_shards(work, folder / SHARD_FOLDER)
    images = StoredImages(folder / SHARD_FOLDER, read_description(folder / SHARD_FOLDER))
    write_parquet(folder / CAPTIONS_FILE, captions)
    write_parquet(folder / PLAN_FILE, work.plan)
    write_parquet(folder / MANIFEST_FILE, build_manifest(work.plan, images))
    return open_set(folder)
