"""Shrinks a finished set to a smaller one by copying pictures; nothing is generated."""

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gmail_kedro.interfaces import ImageRecord
from gmail_kedro.records.finished import CAPTIONS_FILE, MANIFEST_FILE, PLAN_FILE, SHARD_FOLDER, FinishedSet, open_set
from gmail_kedro.records.plan import PLAN_COLUMNS
from gmail_kedro.records.shards import ShardError, ShardWriter, jpeg_sha256, read_shard
from gmail_kedro.records.stored import (
    COMPLETE_FILE,
    SetDescription,
    StoredImages,
    describe_set,
    shard_path,
    write_description,
)

RECORDS_A_WRITE = 64


def choose_rows(
    manifest: pd.DataFrame,
    *,
    photograph_count: int | None = None,
    caption_ids: Collection[str] | None = None,
    samples_per_caption: int | None = None,
) -> pd.DataFrame:
    """Returns the rows of a manifest that a subset keeps, in order; every limit that is given must hold.

    Args:
        manifest: The origin's, quarantined rows included.
        photograph_count: Keep the first so many photographs.
        caption_ids: Keep these captions.
        samples_per_caption: Keep the first so many pictures of each caption.

    Raises:
        ValueError: If a limit is below 1 or larger than what there is, a caption id is unknown, or nothing is left.
    """
    keep = pd.Series(True, manifest.index)
    if photograph_count is not None:
        photographs = manifest["image_id"].unique()
        _check_limit("photographs", photograph_count, len(photographs))
        keep &= manifest["image_id"].isin(photographs[:photograph_count])
    if caption_ids is not None:
        unknown = sorted(set(caption_ids) - set(manifest["caption_id"]))
        if unknown:
            raise ValueError(
                f"The set has no pictures of {len(unknown)} of the {len(caption_ids)} caption ids (first: "
                f"{unknown[0]!r}). Its ids are such as {manifest['caption_id'].iloc[0]!r}."
            )
        keep &= manifest["caption_id"].isin(list(caption_ids))
    if samples_per_caption is not None:
        _check_limit("samples per caption", samples_per_caption, int(manifest["sample_index"].max()) + 1)
        keep &= manifest["sample_index"] < samples_per_caption
    if not keep.any():
        raise ValueError("The limits together leave no picture. Loosen one of them.")
    return manifest[keep].reset_index(drop=True)


def copy_subset(origin: FinishedSet, rows: pd.DataFrame, folder: Path) -> FinishedSet:
    """Writes rows of a finished set as a set of their own; the folder appears when the set is whole.

    Keys, seeds and bytes stay; shards are as large as the origin's. The first photographs of a set give the very
    files that generating for so many photographs would have given.

    Args:
        origin: The finished set.
        rows: Rows of its manifest, in its order.
        folder: Home of the new set.

    Raises:
        FileExistsError: If the folder is there already.
        ValueError: If a picture of the origin is damaged.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already. Choose another name, or delete it first.")
    shard_size = int(origin.manifest["shard_id"].value_counts().max())
    rows = rows.assign(shard_id=[f"{row // shard_size:05d}" for row in range(len(rows))], origin=rows["shard_id"])
    description = describe_set(rows, origin.images.description.settings)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a copy that was killed
    (partial / SHARD_FOLDER).mkdir(parents=True)
    images = _copy_pictures(_read_records(origin, rows), rows, description, partial / SHARD_FOLDER)
    rows[list(PLAN_COLUMNS)].to_parquet(partial / PLAN_FILE)
    if (origin.folder / CAPTIONS_FILE).is_file():
        shutil.copy(origin.folder / CAPTIONS_FILE, partial)
    _place(rows.drop(columns="origin"), images).to_parquet(partial / MANIFEST_FILE)
    os.replace(partial, folder)
    return open_set(folder)


def _copy_pictures(
    records: Iterator[ImageRecord], rows: pd.DataFrame, wanted: SetDescription, folder: Path
) -> StoredImages:
    truncated_count = 0
    with tqdm(total=len(rows), unit="image", disable=None) as progress:
        for shard_id, part in rows.groupby("shard_id", sort=False):
            keys = part.loc[part["sha256"].notna(), "key"].tolist()
            with ShardWriter(shard_path(folder, str(shard_id)), keys, wanted.shards[str(shard_id)]) as writer:
                while batch := list(islice(records, min(RECORDS_A_WRITE, len(keys) - writer.written_count))):
                    writer.append(batch)
                    truncated_count += sum(bool(record.facts.get("truncated")) for record in batch)
                    progress.update(len(batch))
                writer.finish()
    closed = replace(wanted, truncated_prompt_count=truncated_count)
    write_description(folder, closed, COMPLETE_FILE)
    return StoredImages(folder, closed)


def _read_records(origin: FinishedSet, rows: pd.DataFrame) -> Iterator[ImageRecord]:
    """Yields the pictures of the rows, which carry their shard in the origin as ``origin``, shard by shard."""
    for shard_id, part in rows.groupby("origin", sort=False):
        wanted = dict(zip(part["key"].tolist(), part["sha256"].tolist(), strict=True))
        path = shard_path(origin.images.folder, str(shard_id))
        for record in read_shard(path):
            if record.key in wanted:
                if jpeg_sha256(record.jpeg) != wanted[record.key]:
                    raise ShardError(path, f"picture {record.key!r}", "it is another one than the manifest says")
                yield record


def _place(rows: pd.DataFrame, images: StoredImages) -> pd.DataFrame:
    places = {key: images.locate(key) for key in list(images.keys())}
    stored = rows["key"].isin(places.keys())
    rows.loc[stored, "shard"] = [f"{places[key].shard_id}.tar" for key in rows.loc[stored, "key"]]
    rows.loc[stored, "offset"] = [places[key].offset for key in rows.loc[stored, "key"]]
    return rows


def _check_limit(what: str, limit: int, there: int) -> None:
    if not 1 <= limit <= there:
        raise ValueError(f"The number of {what} must be between 1 and the set's own {there}. Got {limit} instead.")
