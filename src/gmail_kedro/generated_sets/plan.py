"""The generation plan: one row for each image to make, with its own seed and its place in a shard.

Images are ordered by sample, then by the caption's rank among its real image's captions, then by real image, and
every (sample, rank) has shards of its own. So more real images, more captions a real image or more samples a caption
add shards and change none that is full; only the last shard of each (sample, rank) can grow.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.generated_sets.block_tables import BLOCK_ROWS, Table, stable_numbers, take_rows
from gmail_kedro.generated_sets.captions import TRAIN, CaptionIndex, hash_contents, index_captions
from gmail_kedro.generated_sets.keys import check_caption_ids
from gmail_kedro.interfaces import SPLITS
from gmail_kedro.params.generation import GenerationParams

logger = logging.getLogger(__name__)
PLAN_SCHEMA = pa.schema(
    {
        "caption_id": pa.string(),
        "image_id": pa.string(),
        "sample_index": pa.int64(),
        "prompt": pa.string(),
        "seed": pa.int64(),
        "shard_id": pa.string(),
        "key": pa.string(),
    }
)
PLAN_COLUMNS = tuple(PLAN_SCHEMA.names)
# A shard id is (sample * MAX_RANKS + rank) * MAX_SHARDS + number: lanes never meet, however far one of them grows.
MAX_RANKS = 1000
MAX_SHARDS = 100_000


@dataclass(frozen=True)
class Choice:
    """The captions that images are made for, in plan order."""

    rows: np.ndarray  # their rows in the captions table, int64 [N]
    ranks: np.ndarray  # place of each among the captions of its real image, int64 [N]
    sources: np.ndarray  # row of the caption whose image serves each: its own, unless prompts are shared, int64 [N]


def plan_images(captions: Table, *, params: GenerationParams) -> pd.DataFrame:
    """Returns the plan of ``plan_blocks`` as one data frame."""
    return plan_blocks(captions, params=params).read_pandas()


def plan_blocks(captions: Table, *, params: GenerationParams) -> pa.RecordBatchReader:
    """Returns the images to make for the training captions of a corpus, block by block.

    Args:
        captions: One row a caption: ``caption_id``, ``image_id``, ``caption``, ``split``, all text.
        params: How many real images, captions and samples; the base seed; the shard size.

    Returns:
        One row an image: ``caption_id``, ``image_id``, ``sample_index``, ``prompt``, ``seed`` (63 bits),
        ``shard_id`` (the number of the shard among those of its sample and rank in five digits, after sample and
        rank where they are not 0) and ``key`` (``caption_id/sample_index``). A caption id too long for a tar header
        is refused when its block is read.

    Raises:
        ValueError: If the captions are empty, lack a column, have no training row, repeat a caption id, hold an id
            that is not text, an unknown split, or a caption that is blank or has a NUL; or if a real image
            has 1000 captions or more, or the shards are too small for the corpus.
    """
    index = index_captions(captions)
    choice = choose_captions(index, params)
    is_own = choice.rows == choice.sources
    rows, ranks = choice.rows[is_own], choice.ranks[is_own]
    counts = np.bincount(ranks)
    if len(counts) > MAX_RANKS:
        raise ValueError(f"At most {MAX_RANKS} captions a real image fit. Lower generation.captions_per_image.")
    if counts.max() > MAX_SHARDS * params.shard_size:
        raise ValueError(
            f"{counts.max()} images make more than {MAX_SHARDS} shards of {params.shard_size}. Raise "
            "generation.shard_size; shards of a few hundred megabytes are easiest to move."
        )
    table = index.table
    del index, choice, is_own  # a few hundred megabytes that the texts may take
    texts = table.to_table(columns=["caption_id", "image_id", "caption"])
    return pa.RecordBatchReader.from_batches(PLAN_SCHEMA, _blocks(texts, rows, counts, params))


def choose_captions(index: CaptionIndex, params: GenerationParams) -> Choice:
    """Returns the captions that images are made for.

    Real images count in the order of their first training caption. Captions of one real image that are equal after
    white space is normalised count once; with ``dedupe_prompts``, equal captions of all real images share an image.

    Raises:
        ValueError: If there is no training caption.
    """
    rows = np.flatnonzero(index.split == TRAIN)
    if not len(rows):
        found = sorted(SPLITS[code] for code in np.unique(index.split))
        raise ValueError(f"No caption has split 'train'; the table has only {found}. Images are made for it alone.")
    # factorize() numbers in order of appearance: the first n images of a corpus stay the first n when it grows.
    real_images = pd.factorize(index.image_hash[rows])[0]
    if params.image_count is not None:
        rows, real_images = _keep(real_images < params.image_count, rows, real_images)
    contents = None  # reads all texts once more; with one caption an image nothing can repeat
    if params.dedupe_prompts or len(rows) > real_images.max() + 1:
        contents = hash_contents(index.table)
        # Odd factor: no two contents get the same product, and the real image's hash tells equal ones apart.
        mixed = contents[rows] * np.uint64(0x9E3779B97F4A7C15) ^ index.image_hash[rows]
        repeats = pd.Series(mixed).duplicated().to_numpy()
        if repeats.any():
            logger.info("%d captions repeat another of their real image; it counts once.", repeats.sum())
        rows, real_images = _keep(~repeats, rows, real_images)
    ranks = pd.Series(real_images).groupby(real_images, sort=False).cumcount().to_numpy()  # earlier ones of its image
    rows, real_images, ranks = _keep(ranks < params.captions_per_image, rows, real_images, ranks)
    # Rank before image: another caption of every image is appended as a lane and moves no row of the lanes before.
    order = np.argsort(ranks * (real_images.max() + 1) + real_images, kind="stable")
    rows, ranks = rows[order], ranks[order]
    if not params.dedupe_prompts or contents is None:
        return Choice(rows, ranks, sources=rows)
    # return_index gives the first occurrence, which in plan order is the lowest rank of the earliest image.
    _, first, members = np.unique(contents[rows], return_index=True, return_inverse=True)
    logger.info("%d captions share %d images by their prompt.", len(rows), len(first))
    return Choice(rows, ranks, sources=rows[first][members])


def image_seed(base_seed: int, caption_id: str, sample_index: int) -> int:
    """Returns the seed of one image, in [0, 2^63): a hash, so it does not depend on other rows or machines."""
    return int(_image_seeds(base_seed, [caption_id], sample_index)[0])


def hash_plan(plan: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Returns a hex hash of a plan's rows and the generator's settings; equal hashes give equal images.

    The rows may be those of a whole plan or of one shard; the settings are JSON values, in any order.
    """
    digest = hashlib.sha256(json.dumps(dict(settings), sort_keys=True, allow_nan=False).encode())
    # large_string whatever the plan came from: the offsets below must have one width for the hash to be one.
    table = pa.Table.from_pandas(plan[list(PLAN_COLUMNS)], preserve_index=False).cast(_HASHED)
    for start in range(0, len(table), BLOCK_ROWS):
        block = table.slice(start, BLOCK_ROWS).combine_chunks()
        for name in PLAN_COLUMNS:
            for part in _bytes_of(block[name].chunk(0)):
                # The length first: bytes that move from one column into the next give another hash.
                digest.update(len(part).to_bytes(8, "little"))
                digest.update(part)
    return digest.hexdigest()


_HASHED = pa.schema([(f.name, pa.large_string() if f.type == pa.string() else f.type) for f in PLAN_SCHEMA])


def _bytes_of(values: pa.Array) -> Iterator[memoryview]:
    """Yields what a column holds: of numbers their bytes, of texts their lengths and then all letters."""
    if pa.types.is_integer(values.type):
        yield memoryview(values.to_numpy()).cast("B")
        return
    yield memoryview(pc.fill_null(pc.binary_length(values), -1).to_numpy().astype("<i8")).cast("B")
    ends = np.frombuffer(values.buffers()[1], dtype=np.int64)[values.offset :]
    letters = values.buffers()[2]
    yield memoryview(letters)[int(ends[0]) : int(ends[len(values)])] if letters else memoryview(b"")


def _keep(mask: np.ndarray, *arrays: np.ndarray) -> tuple[np.ndarray, ...]:
    return tuple(array[mask] for array in arrays) if not mask.all() else arrays


def _blocks(
    texts: pa.Table, rows: np.ndarray, counts: np.ndarray, params: GenerationParams
) -> Iterator[pa.RecordBatch]:
    ends = np.cumsum(counts)
    for sample in range(params.samples_per_caption):
        for rank, (end, count) in enumerate(zip(ends, counts, strict=True)):
            lane = rows[end - count : end]
            for start in range(0, count, BLOCK_ROWS):
                shards = np.arange(start, min(start + BLOCK_ROWS, count)) // params.shard_size
                block = take_rows(texts, lane[start : start + BLOCK_ROWS])
                yield _plan_block(block, sample, _shard_ids(shards, sample, rank), params.seed)


def _plan_block(block: pa.RecordBatch, sample: int, shard_ids: pa.Array, base_seed: int) -> pa.RecordBatch:
    ids = block["caption_id"].cast(pa.string())
    check_caption_ids(ids, sample)
    columns = [
        ids,
        block["image_id"].cast(pa.string()),
        pa.repeat(pa.scalar(sample, pa.int64()), len(ids)),
        block["caption"].cast(pa.string()),
        pa.array(_image_seeds(base_seed, ids.to_pylist(), sample)),
        shard_ids,
        pc.binary_join_element_wise(ids, str(sample), "/"),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=PLAN_SCHEMA)


def _shard_ids(numbers: np.ndarray, sample: int, rank: int) -> pa.Array:
    lane = (sample * MAX_RANKS + rank) * MAX_SHARDS
    names = [f"{lane + number:05d}" for number in range(numbers[0], numbers[-1] + 1)]
    return pa.array(names).take(pa.array(numbers - numbers[0]))


def _image_seeds(base_seed: int, caption_ids: list[str], sample_index: int) -> np.ndarray:
    # Both numbers come first: no caption id can then imitate another row.
    numbers = stable_numbers(f"{base_seed}/{sample_index}/", caption_ids)
    return (numbers >> np.uint64(1)).astype(np.int64)  # 63 bits, for a column of int64
