"""Shrinks a complete set to a smaller one by copying images; nothing is generated."""

import shutil
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from gmail_kedro.generated_sets.block_tables import write_parquet
from gmail_kedro.generated_sets.manifest import QUARANTINED, build_manifest
from gmail_kedro.generated_sets.set_folder import (
    CAPTIONS_FILE,
    MANIFEST_FILE,
    PLAN_FILE,
    SHARD_FOLDER,
    UNREADABLE_FILE,
    GeneratedSet,
    open_set,
)
from gmail_kedro.generated_sets.shard_format import ShardError, jpeg_sha256, read_image
from gmail_kedro.generated_sets.stored_images import (
    COMPLETE_FILE,
    SetDescription,
    ShardImages,
    describe_set,
    write_description,
    write_judged,
)
from gmail_kedro.interfaces import ImageRecord
from gmail_kedro.whole_files import atomic_folder, known_write

NUMBER_DIGITS = 5


def choose_rows(
    manifest: pd.DataFrame,
    *,
    real_image_count: int | None = None,
    caption_ids: Collection[str] | None = None,
    samples_per_caption: int | None = None,
) -> pd.DataFrame:
    """Returns the rows of a manifest that a subset keeps, in order; every limit that is given must hold.

    Args:
        manifest: The origin's, quarantined rows included.
        real_image_count: Keep the first so many real images.
        caption_ids: Keep these captions.
        samples_per_caption: Keep the first so many images of each caption.

    Raises:
        ValueError: If a limit is below 1 or larger than what there is, a caption id is unknown, or nothing is left.
    """
    keep = pd.Series(True, manifest.index)
    if real_image_count is not None:
        real_images = manifest["image_id"].unique()
        _check_limit("real images", real_image_count, len(real_images))
        keep &= manifest["image_id"].isin(real_images[:real_image_count])
    if caption_ids is not None:
        unknown = sorted(set(caption_ids) - set(manifest["caption_id"]))
        if unknown:
            raise ValueError(
                f"The set has no images of {len(unknown)} of the {len(caption_ids)} caption ids (first: "
                f"{unknown[0]!r}). Its ids are such as {manifest['caption_id'].iloc[0]!r}."
            )
        keep &= manifest["caption_id"].isin(list(caption_ids))
    if samples_per_caption is not None:
        _check_limit("samples per caption", samples_per_caption, int(manifest["sample_index"].max()) + 1)
        keep &= manifest["sample_index"] < samples_per_caption
    if not keep.any():
        raise ValueError("The limits together leave no image. Loosen one of them.")
    return manifest[keep].reset_index(drop=True)


def copy_subset(origin: GeneratedSet, rows: pd.DataFrame, folder: Path) -> GeneratedSet:
    """Writes rows of a complete set as a set of their own; the folder appears when the set is whole.

    Keys, seeds and bytes stay; shards are as large as the origin's. The first real images of a set give the very
    files that generating for so many real images would have given, unless prompts are shared
    (``generation.dedupe_prompts``): an image then belongs to the first caption of its prompt, by rank, and a caption
    that shares the image of a real image beyond them is left without one.

    Args:
        origin: The complete set.
        rows: Rows of its manifest, in its order.
        folder: Home of the new set.

    Raises:
        FileExistsError: If the folder is there already.
        ValueError: If an image of the origin is damaged.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} is there already. Choose another name, or delete it first.")
    # The set does not say its shard size; only the last shard of a lane is smaller.
    shard_size = int(origin.manifest["shard_id"].value_counts().max())
    rows = rows.assign(shard_id=number_shards(rows["shard_id"], shard_size))
    plan = origin.plan[origin.plan["key"].isin(rows["key"])].assign(shard_id=rows["shard_id"].to_numpy())
    described = origin.images.description
    with atomic_folder(folder) as partial:  # open_set must never see a set that is being copied
        images = _copy_images(origin, rows, describe_set(plan, described.settings, described.quality), partial)
        write_parquet(partial / PLAN_FILE, plan)
        write_parquet(partial / MANIFEST_FILE, build_manifest(plan, images))
        for name in (CAPTIONS_FILE, UNREADABLE_FILE):
            if (origin.folder / name).is_file():
                with known_write(partial / name) as copy:
                    shutil.copy(origin.folder / name, copy)
    return open_set(folder)


def number_shards(shard_ids: "pd.Series[str]", shard_size: int) -> "pd.Series[str]":
    """Returns the shard of each row when the shards of every lane are numbered again from its first.

    Args:
        shard_ids: The shards the rows come from. The last five digits number the shards of a lane, such as one sample
            of all captions; the digits before them, if there are any, are the lane.
        shard_size: Rows in a shard.
    """
    lanes = shard_ids.str[:-NUMBER_DIGITS]
    numbers = lanes.groupby(lanes).cumcount() // shard_size
    return lanes + numbers.astype(str).str.zfill(NUMBER_DIGITS)


def _copy_images(origin: GeneratedSet, rows: pd.DataFrame, wanted: SetDescription, home: Path) -> ShardImages:
    folder, truncated_count = home / SHARD_FOLDER, 0
    with tqdm(total=len(rows), unit="image", disable=None) as progress:
        for name, part in rows.groupby("shard_id", sort=False):
            copied = [_read_record(origin, row) for row in part.to_dict("records")]
            accepted = [record for record in copied if "reason" not in record.facts]
            refused = [record for record in copied if "reason" in record.facts]
            write_judged(folder, str(name), wanted.shards[str(name)], accepted, refused)
            truncated_count += sum(record.facts["truncated"] for record in copied)
            progress.update(len(copied))
    reasons = rows.loc[rows["status"] == QUARANTINED, "reason"].value_counts()
    closed = replace(
        wanted,
        truncated_prompt_count=truncated_count,
        quarantined={name: int(count) for name, count in sorted(reasons.items(), key=lambda row: (-row[1], row[0]))},
    )
    write_description(folder, closed, COMPLETE_FILE)
    return ShardImages(folder, closed)


def _read_record(origin: GeneratedSet, row: Mapping[Any, Any]) -> ImageRecord:
    path = origin.images.folder / row["shard"]
    record = read_image(path, row["key"], row["offset"])
    if jpeg_sha256(record.jpeg) != row["sha256"]:
        raise ShardError(path, f"image {row['key']!r}", "it is not the one in the manifest")
    return record


def _check_limit(what: str, limit: int, there: int) -> None:
    if not 1 <= limit <= there:
        raise ValueError(f"The number of {what} must be between 1 and the set's own {there}. Got {limit} instead.")
