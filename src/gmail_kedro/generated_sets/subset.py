"""Shrinks a finished set to a smaller one by copying pictures; nothing is generated."""

import os
import shutil
from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from gmail_kedro.generated_sets.checksums import write_parquet
from gmail_kedro.generated_sets.finished import (
    CAPTIONS_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    SHARD_FOLDER,
    UNREADABLE_FILE,
    FinishedSet,
    open_set,
)
from gmail_kedro.generated_sets.manifest import QUARANTINED
from gmail_kedro.generated_sets.quality import forget_verdict
from gmail_kedro.generated_sets.shards import ShardError, ShardWriter, jpeg_sha256, read_shard
from gmail_kedro.generated_sets.stored import (
    COMPLETE_FILE,
    SetDescription,
    StoredImages,
    describe_set,
    quarantine_path,
    shard_path,
    write_description,
)
from gmail_kedro.interfaces import ImageRecord

NUMBER_DIGITS = 5


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
    files that generating for so many photographs would have given, unless prompts are shared
    (``generation.dedupe_prompts``): a picture then belongs to the first caption of its prompt, by rank, and a caption
    that shares the picture of a photograph beyond them is left without one.

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
    rows = rows.assign(shard_id=number_shards(rows["shard_id"], shard_size), origin=rows["shard_id"])
    plan = origin.plan[origin.plan["key"].isin(rows["key"])].assign(shard_id=rows["shard_id"].to_numpy())
    described = origin.images.description
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a copy that was killed
    (partial / SHARD_FOLDER).mkdir(parents=True)
    images = _copy_pictures(origin, rows, describe_set(plan, described.settings, described.quality), partial)
    write_parquet(partial / PLAN_FILE, plan)
    write_parquet(partial / MANIFEST_FILE, _place(rows.drop(columns="origin"), images))
    for name in (CAPTIONS_FILE, UNREADABLE_FILE):
        if (origin.folder / name).is_file():
            shutil.copy(origin.folder / name, partial)
    os.replace(partial, folder)
    return open_set(folder)


def number_shards(shard_ids: "pd.Series[str]", shard_size: int) -> "pd.Series[str]":
    """Returns the shard of each row when the shards of every lane are filled up again from its first.

    Args:
        shard_ids: The shards the rows come from. The last five digits number the shards of a lane, such as one sample
            of all captions; the digits before them, if there are any, are the lane.
        shard_size: Rows in a shard.
    """
    lanes = shard_ids.str[:-NUMBER_DIGITS]
    numbers = lanes.groupby(lanes).cumcount() // shard_size
    return lanes + numbers.astype(str).str.zfill(NUMBER_DIGITS)


def _copy_pictures(origin: FinishedSet, rows: pd.DataFrame, wanted: SetDescription, home: Path) -> StoredImages:
    folder, truncated_count = home / SHARD_FOLDER, 0
    records = _read_records(origin, rows)
    with tqdm(total=len(rows), unit="image", disable=None) as progress:
        for shard_id, part in rows.groupby("shard_id", sort=False):
            keys, refused = part["key"].tolist(), {}
            with ShardWriter(shard_path(folder, str(shard_id)), keys, wanted.shards[str(shard_id)]) as writer:
                for record in islice(records, len(keys)):
                    if "reason" in record.facts:
                        refused[record.key] = {name: record.facts[name] for name in ("reason", "detail")}
                    writer.append([forget_verdict(record)])
                    truncated_count += record.facts["truncated"]
                    progress.update()
                writer.finish(refused)
    reasons = rows.loc[rows["status"] == QUARANTINED, "reason"].value_counts()
    closed = replace(
        wanted,
        truncated_prompt_count=truncated_count,
        quarantined={name: int(count) for name, count in sorted(reasons.items(), key=lambda row: (-row[1], row[0]))},
    )
    write_description(folder, closed, COMPLETE_FILE)
    return StoredImages(folder, closed)


def _read_records(origin: FinishedSet, rows: pd.DataFrame) -> Iterator[ImageRecord]:
    """Yields the pictures of the rows, which carry their shard in the origin as ``origin``, in their order."""
    for shard_id, part in rows.groupby("origin", sort=False):
        wanted = dict(zip(part["key"].tolist(), part["sha256"].tolist(), strict=True))
        path, quarantine = (place(origin.images.folder, str(shard_id)) for place in (shard_path, quarantine_path))
        refused = {record.key: record for record in read_shard(quarantine)} if quarantine.is_file() else {}
        accepted = (record for record in read_shard(path) if record.key in wanted)
        for key in part["key"].tolist():
            record = refused[key] if key in refused else next(accepted, None)
            if record is None or record.key != key or jpeg_sha256(record.jpeg) != wanted[key]:
                raise ShardError(path, f"picture {key!r}", "it is not the one in the manifest")
            yield record


def _place(rows: pd.DataFrame, images: StoredImages) -> pd.DataFrame:
    refused = images.quarantined
    places = [refused[key].place if key in refused else images.locate(key) for key in rows["key"].tolist()]
    return rows.assign(
        shard=[f"{place.shard_id}.tar" for place in places], offset=[place.offset for place in places]
    ).reset_index(drop=True)


def _check_limit(what: str, limit: int, there: int) -> None:
    if not 1 <= limit <= there:
        raise ValueError(f"The number of {what} must be between 1 and the set's own {there}. Got {limit} instead.")
