"""The folder of a complete set, opened to be looked at and never written to: plan, shards and manifest."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from gmail_kedro.generated_sets.block_tables import read_parquet
from gmail_kedro.generated_sets.manifest import MADE
from gmail_kedro.generated_sets.shard_format import remake
from gmail_kedro.generated_sets.stored_images import COMPLETE_FILE, ShardImages, read_description

CAPTIONS_FILE, PLAN_FILE, MANIFEST_FILE = "captions.parquet", "plan.parquet", "manifest.parquet"
SHARD_FOLDER = "shards"
UNREADABLE_FILE = "unreadable_photographs.csv"
ROWS_A_READ = 4096


@dataclass(frozen=True)
class GeneratedSet:
    """A complete generated set."""

    folder: Path  # home of the captions, the plan, the manifest and the shards
    images: ShardImages  # the images by key
    manifest: pd.DataFrame  # one row an image of the plan, made or quarantined

    @property
    def name(self) -> str:
        """The set's name, which is its folder's."""
        return self.folder.name

    @cached_property
    def plan(self) -> pd.DataFrame:
        """The rows that were asked for; an image that took a retry has another seed in the manifest."""
        return _read_table(self.folder / PLAN_FILE)

    @property
    def made(self) -> pd.DataFrame:
        """The manifest's rows whose images may be paired."""
        return self.manifest[self.manifest["status"] == MADE]

    def row(self, key: str) -> dict[str, Any]:
        """Returns an image's row of the manifest.

        Raises:
            ValueError: If there is none.
        """
        rows = self.manifest[self.manifest["key"] == key].to_dict("records")
        if not rows:
            raise ValueError(
                f"The set {self.name!r} has no image {key!r}; it has {len(self.manifest)}, such as "
                f"{self.manifest['key'].iloc[0]!r} (caption_id/sample_index)."
            )
        return {str(name): value for name, value in rows[0].items()}

    def read(self, key: str) -> bytes:
        """Returns an image's JPEG, quarantined or not; empty where none was made.

        Raises:
            FileNotFoundError: If there is no such image.
        """
        images = self.images
        return images.read_quarantined(key) if key in images.quarantined else images.read(key)


def open_set(folder: Path) -> GeneratedSet:
    """Returns the set in a folder.

    Args:
        folder: Such as ``data/02_intermediate/mini_sd``.

    Raises:
        FileNotFoundError: If there is no set, or it is not complete.
        ValueError: If its description or its manifest is damaged.
    """
    folder = Path(folder).resolve()  # the set's name is the folder's, so "." and links must be followed
    description = read_description(folder / SHARD_FOLDER)
    absent = [name for name in (PLAN_FILE, MANIFEST_FILE) if not (folder / name).is_file()]
    if description is None or absent:
        absent = absent or [f"{SHARD_FOLDER}/{COMPLETE_FILE}"]
        raise FileNotFoundError(
            f"There is no complete set in {folder}: {absent[0]} is not there. "
            f"Make or complete it with: {remake(folder)}; or fetch it with: dvc pull"
        )
    return GeneratedSet(folder, ShardImages(folder / SHARD_FOLDER, description), _read_table(folder / MANIFEST_FILE))


def rows_by_shard(table: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yields the rows of a plan or manifest shard by shard, in file order, with one shard's rows in memory at a time.

    A shard whose rows do not lie together is yielded more than once.
    """
    import pyarrow.parquet as pq

    held = pd.DataFrame()
    for batch in pq.ParquetFile(table).iter_batches(batch_size=ROWS_A_READ):
        held = pd.concat([held, batch.to_pandas()], ignore_index=True)
        last = held["shard_id"].iloc[-1]
        runs = (held["shard_id"] != held["shard_id"].shift()).cumsum()
        for _, rows in held[runs < runs.iloc[-1]].groupby(runs, sort=False):
            yield str(rows["shard_id"].iloc[0]), rows
        held = held[runs == runs.iloc[-1]]  # the last shard may go on in the next batch
    if len(held):
        yield str(last), held


def _read_table(path: Path) -> pd.DataFrame:
    return read_parquet(path, remedy=f"Write it again (good shards are kept): {remake(path.parent)}")
