"""The generation plan: one row for each picture to make, with its own seed and its place in a shard."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from gmail_kedro.params import GenerationParams
from gmail_kedro.records.keys import member_base

CAPTION_COLUMNS = ("caption_id", "image_id", "caption", "split")
PLAN_COLUMNS = ("caption_id", "image_id", "sample_index", "prompt", "seed", "shard_id", "key")
SPLITS = ("train", "val", "test")
HASH_BLOCK_ROWS = 65536


def plan_images(captions: pd.DataFrame, *, params: GenerationParams) -> pd.DataFrame:
    """Returns the pictures to make for the training captions of a corpus.

    Photographs keep their order in the file, so a larger ``image_count`` only adds rows at the end and
    full shards made before stay valid.

    Args:
        captions: One row a caption: ``caption_id``, ``image_id``, ``caption``, ``split``, all text.
        params: How many photographs, captions and samples; the base seed; the shard size.

    Returns:
        One row a picture: ``caption_id``, ``image_id``, ``sample_index``, ``prompt``, ``seed`` (63 bits),
        ``shard_id`` (five digits) and ``key`` (``caption_id/sample_index``).

    Raises:
        ValueError: If the captions are empty, lack a column, have no training row, repeat a caption id,
            hold an id that is not text or too long, an unknown split, or a caption that is blank or has a NUL.
    """
    check_captions(captions)
    chosen = _choose_captions(captions, params)
    count = params.samples_per_caption
    plan = chosen.loc[chosen.index.repeat(count), ["caption_id", "image_id"]].reset_index(drop=True)
    plan["sample_index"] = np.tile(np.arange(count, dtype=np.int64), len(chosen))
    plan["prompt"] = chosen["caption"].repeat(count).to_numpy()
    rows = zip(plan["caption_id"].tolist(), plan["sample_index"].tolist(), strict=True)
    plan["seed"] = np.fromiter((image_seed(params.seed, *row) for row in rows), dtype=np.int64, count=len(plan))
    plan["shard_id"] = _shard_ids(len(plan), params.shard_size)
    plan["key"] = plan["caption_id"] + "/" + plan["sample_index"].astype(str)
    for key in plan["key"].tolist():
        member_base(key)
    return plan[list(PLAN_COLUMNS)]


def image_seed(base_seed: int, caption_id: str, sample_index: int) -> int:
    """Returns the seed of one picture, in [0, 2^63): a hash, so it does not depend on other rows or machines."""
    # Both numbers come first: no caption id can then imitate another row.
    text = f"{base_seed}/{sample_index}/{caption_id}".encode(errors="surrogatepass")
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1


def hash_plan(plan: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Returns a hex hash of a plan's rows and the generator's settings; equal hashes give equal pictures.

    Args:
        plan: Rows as ``plan_images`` returns them, all or those of one shard.
        settings: Whatever else decides the pixels; JSON values only, in any order.
    """
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True, allow_nan=False).encode())
    for start in range(0, len(plan), HASH_BLOCK_ROWS):
        block = plan.iloc[start : start + HASH_BLOCK_ROWS]
        for name in PLAN_COLUMNS:
            digest.update(json.dumps([name, block[name].tolist()]).encode())
    return digest.hexdigest()


def check_captions(captions: pd.DataFrame) -> None:
    """Refuses a captions table that cannot be planned.

    Raises:
        ValueError: If it is empty, lacks a column, repeats a caption id, holds an id that is not text, an
            unknown split, or a training caption that is blank or has a NUL character.
    """
    missing = [name for name in CAPTION_COLUMNS if name not in captions.columns]
    if missing:
        raise ValueError(f"The captions table lacks {missing}; expected the columns {list(CAPTION_COLUMNS)}.")
    if captions.empty:
        raise ValueError("The captions table is empty; expected one row a caption. Check the corpus entry's path.")
    _check_ids(captions)
    unknown = captions.loc[~captions["split"].isin(SPLITS)]
    if len(unknown):
        row = unknown.iloc[0]
        raise ValueError(
            f"The split of caption {row.caption_id!r} is {row.split!r}; expected one of {list(SPLITS)}. "
            f"{len(unknown)} rows are like this: map them in the corpus reader."
        )
    _check_texts(captions[captions["split"] == "train"])


def _check_ids(captions: pd.DataFrame) -> None:
    for name in ("caption_id", "image_id"):
        values = captions[name]
        if pd.api.types.infer_dtype(values, skipna=False) != "string":
            row, value = next((i, v) for i, v in enumerate(values) if not isinstance(v, str))
            raise ValueError(
                f"{name} must be text. Got {value!r} ({type(value).__name__}) in row {row}; "
                "convert the column with astype(str) in the corpus reader."
            )
    repeated = captions["caption_id"].duplicated(keep=False)
    if repeated.any():
        rows = captions.loc[repeated]
        raise ValueError(
            f"The caption_id {rows['caption_id'].iloc[0]!r} occurs more than once ({len(rows)} rows share an id "
            "with another); every caption needs an id of its own."
        )


def _check_texts(train: pd.DataFrame) -> None:
    texts = train["caption"]
    # A byte-order mark alone is what an empty first line of a Windows file leaves.
    blank = texts.isna() | (texts.astype(str).str.replace("\ufeff", "", regex=False).str.strip() == "")
    if blank.any():
        raise ValueError(
            f"The caption {train.loc[blank, 'caption_id'].iloc[0]!r} is blank ({int(blank.sum())} training captions "
            "are); a picture needs a prompt. Remove these rows from the corpus."
        )
    broken = texts.astype(str).str.contains("\0", regex=False)
    if broken.any():
        raise ValueError(
            f"The caption {train.loc[broken, 'caption_id'].iloc[0]!r} has a NUL character; the corpus file is "
            "damaged or not text. Repair or remove the row."
        )


def _choose_captions(captions: pd.DataFrame, params: GenerationParams) -> pd.DataFrame:
    train = captions[captions["split"] == "train"]
    if train.empty:
        found = sorted(captions["split"].unique())
        raise ValueError(f"No caption has split 'train'; the table has only {found}. Pictures are made for it alone.")
    order, _ = pd.factorize(train["image_id"])
    train = train.assign(image_order=order).sort_values("image_order", kind="stable").reset_index(drop=True)
    keep = train.groupby("image_order").cumcount() < params.captions_per_image
    if params.image_count is not None:
        keep &= train["image_order"] < params.image_count
    return train[keep].drop(columns="image_order").reset_index(drop=True)


def _shard_ids(row_count: int, shard_size: int) -> np.ndarray:
    shard_count = -(-row_count // shard_size)
    names = np.array([f"{index:05d}" for index in range(shard_count)], dtype=object)
    return names[np.arange(row_count) // shard_size]
