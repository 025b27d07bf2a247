"""Pairs: each generated image with the real image whose caption it was made from."""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.generated_sets.block_tables import (
    Table,
    as_dataset,
    hash_texts,
    read_blocks,
    stable_numbers,
    take_rows,
)
from gmail_kedro.generated_sets.captions import TRAIN, CaptionIndex, index_captions
from gmail_kedro.generated_sets.manifest import MADE, QUARANTINED
from gmail_kedro.generated_sets.plan import Choice, choose_captions
from gmail_kedro.interfaces import SPLITS
from gmail_kedro.params.generation import GenerationParams, PairingParams

logger = logging.getLogger(__name__)
MANIFEST_COLUMNS = ("caption_id", "image_id", "sample_index", "prompt", "key", "status", "reason")
PAIR_COLUMNS = ("caption_id", "image_id", "caption", "real_key", "generated_key", "split")
PAIR_SCHEMA = pa.schema([(name, pa.string()) for name in PAIR_COLUMNS])
REMAKE = "Make plan, images and manifest from the same captions: kedro run --pipeline=generation"


def pair_by_caption(
    captions: Table, manifest: Table, *, params: PairingParams, generation: GenerationParams | None = None
) -> pd.DataFrame:
    """Returns the pairs of ``pair_blocks`` as one data frame."""
    return pair_blocks(captions, manifest, params=params, generation=generation).read_pandas()


def pair_blocks(
    captions: Table, manifest: Table, *, params: PairingParams, generation: GenerationParams | None = None
) -> pa.RecordBatchReader:
    """Returns the generated images joined with their real images through the caption, block by block.

    Quarantined images are left out, counted and logged by reason. Rows are compared by 64-bit hashes.

    Args:
        captions: One row a caption: ``caption_id``, ``image_id``, ``caption``, ``split``.
        manifest: What became of each image, as ``build_manifest`` returns it.
        params: Share of the real images held out, and the seed of the choice.
        generation: How the set was made; with its ``dedupe_prompts`` an image is paired with the
            real images of all captions that share it. None: with its own caption's alone.

    Returns:
        ``caption_id``, ``image_id``, ``caption``, ``real_key`` (the image id), ``generated_key`` and ``split``
        (``train`` or ``val``; all pairs of one real image share it), in the manifest's order. What is wrong with
        a row of the manifest is raised when its block is read, and what is wrong with all of them at the end.

    Raises:
        ValueError: If a table is empty, lacks a column or repeats a row; if an image was neither made nor
            quarantined, its caption is unknown, its real image or prompt is not the caption's, or the real image is
            one the corpus keeps for validation or test (the message shows the row); if the prompts were not shared as
            ``generation`` says; or if one of the two splits would have no real image.
    """
    index, table = index_captions(captions, with_texts=True), as_dataset(manifest)
    missing = [column for column in MANIFEST_COLUMNS if column not in table.schema.names]
    if missing:
        raise ValueError(f"The manifest lacks the columns {missing}; expected {list(MANIFEST_COLUMNS)}.")
    shared = generation is not None and generation.dedupe_prompts
    sharing = _Sharing(index, choose_captions(index, generation)) if shared and generation else None
    blocks = _Pairing(index, sharing, params).pair_all(read_blocks(table, MANIFEST_COLUMNS))
    return pa.RecordBatchReader.from_batches(PAIR_SCHEMA, blocks)


def is_held_out(image_ids: Sequence[str], *, val_fraction: float, seed: int) -> np.ndarray:
    """Says of real images whether their pairs are for validation, bool [N]: a hash, so other rows do not matter."""
    numbers = stable_numbers(f"{seed}/", image_ids)
    first_not = math.ceil(val_fraction * 2**64)  # may be 2^64 itself, which no uint64 holds
    return np.full(len(numbers), True) if first_not == 2**64 else numbers < np.uint64(first_not)


def check_division(captions: Table, generation: GenerationParams, params: PairingParams) -> None:
    """Refuses a division of the real images that would leave train or val without one, before an image is made.

    Args:
        captions: One row a caption: ``image_id`` and ``split``. Reading stops once both have a real image.
        generation: For how many real images others are generated.
        params: The share held out, and the seed of the choice.

    Raises:
        ValueError: If a split would be empty; the message has both counts.
    """
    chosen: dict[str, None] = {}
    val_count = 0
    for block in read_blocks(as_dataset(captions), ["image_id", "split"]):
        train = block.filter(pc.equal(block["split"], SPLITS[TRAIN]))["image_id"].unique().to_pylist()
        new = [image_id for image_id in train if image_id not in chosen]
        if generation.image_count is not None:
            new = new[: generation.image_count - len(chosen)]
        chosen.update(dict.fromkeys(new))
        val_count += int(is_held_out(new, val_fraction=params.val_fraction, seed=params.seed).sum())
        if 0 < val_count < len(chosen):  # more captions can only add to either side
            return
    if chosen:  # a corpus without training captions is refused by the plan
        is_cut = len(chosen) == generation.image_count
        more = "raise generation.image_count" if is_cut else "add real images to the corpus"
        counts = {"train": len(chosen) - val_count, "val": val_count}
        _refuse_division(counts, params, f"{_find_fraction(list(chosen), params.seed)}, or {more}")


def _find_fraction(image_ids: Sequence[str], seed: int) -> str:
    """Returns the smallest share in percents that puts real images on both sides, as advice."""
    places = stable_numbers(f"{seed}/", image_ids) / 2**64
    fraction = math.floor(places.min() * 100 + 1) / 100
    return f"Set pairing.val_fraction={fraction}" if fraction <= places.max() else "Set another pairing.seed"


def _refuse_division(counts: Mapping[str, int], params: PairingParams, advice: str) -> None:
    raise ValueError(
        f"pairing.val_fraction={params.val_fraction} and pairing.seed={params.seed} put "
        f"{counts['train']} real images into train and {counts['val']} into val; both need one at least. {advice}."
    )


class _Pairing:
    """Joins the manifest block by block; remembers what has to be known of all blocks."""

    def __init__(self, index: CaptionIndex, sharing: "_Sharing | None", params: PairingParams) -> None:
        self._index, self._sharing, self._params = index, sharing, params
        # Sorted hashes and searchsorted: 16 bytes a caption, where a dict of ids takes some hundred.
        self._order = np.argsort(index.caption_hash, kind="stable")
        self._ordered_hash = index.caption_hash[self._order]
        self._kept_out = np.unique(index.image_hash[index.split != TRAIN])
        self._seen: dict[int, np.ndarray] = {}
        self._quarantined: Counter[str] = Counter()
        self._real_images: dict[str, list[np.ndarray]] = {"train": [], "val": []}
        self._row_count = 0

    def pair_all(self, blocks: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for block in blocks:
            self._row_count += block.num_rows
            made = self._leave_out_quarantined(block)
            if made.num_rows:
                yield self._join(made)
        for reason, count in self._quarantined.most_common():
            logger.warning("%d generated images are quarantined (%s) and not paired.", count, reason)
        if self._row_count == self._quarantined.total():
            what = "holds quarantined images alone" if self._row_count else "is empty"
            raise ValueError(f"The manifest {what}; there is nothing to pair. {REMAKE}")
        self._refuse_empty_split()

    def _leave_out_quarantined(self, block: pa.RecordBatch) -> pa.RecordBatch:
        is_quarantined = pc.fill_null(pc.equal(block["status"], QUARANTINED), False)
        if not is_quarantined.true_count:
            return block
        reasons = block.filter(is_quarantined)["reason"].to_pylist()
        self._quarantined.update(reason or "no reason given" for reason in reasons)
        return block.filter(pc.invert(is_quarantined))

    def _join(self, block: pa.RecordBatch) -> pa.RecordBatch:
        was_made = pc.fill_null(pc.equal(block["status"], MADE), False).to_numpy(zero_copy_only=False)
        self._refuse(block, ~was_made, f"was not made (its status is neither {MADE!r} nor {QUARANTINED!r})")
        rows = self._find_captions(block)  # int64 [B], of the captions table
        self._refuse_repeats(block, rows)
        index = self._index
        self._refuse_differences(block, "image_id", "image_id", index.image_hash[rows])
        self._refuse_differences(block, "prompt", "caption", index.text_hash[rows])
        columns = block["caption_id"], block["image_id"], block["prompt"], block["key"]
        if self._sharing is not None:
            is_alien = ~self._sharing.is_source(rows)
            self._refuse(block, is_alien, "shows a prompt that another caption's image stands for")
            of_image, rows = self._sharing.members(rows)  # both int64 [P]: one a pair, P >= B
            captions = take_rows(self._sharing.texts, rows)
            columns = *captions.columns, block["key"].take(pa.array(of_image))
        pairs = self._with_split(*columns)
        # After shared prompts are spread: an image may be paired with a real image that its own row does not name.
        self._refuse_leaks(pairs, index.image_hash[rows])
        self._count_real_images(pairs, index.image_hash[rows])
        return pairs

    def _find_captions(self, block: pa.RecordBatch) -> np.ndarray:
        wanted = hash_texts(block["caption_id"])
        places = np.minimum(np.searchsorted(self._ordered_hash, wanted), len(self._order) - 1)
        is_orphan = self._ordered_hash[places] != wanted
        self._refuse(block, is_orphan, "is an orphan: the captions have no such caption_id")
        return self._order[places]

    def _refuse_differences(self, block: pa.RecordBatch, column: str, source: str, wanted: np.ndarray) -> None:
        differs = hash_texts(block[column]) != wanted
        self._refuse(block, differs, f"has another {column} than the captions table's {source}")

    def _with_split(self, *columns: pa.Array) -> pa.RecordBatch:
        caption_ids, image_ids, captions, keys = columns
        encoded = image_ids.dictionary_encode()  # each image is hashed once, not once a caption
        fraction, seed = self._params.val_fraction, self._params.seed
        is_val = is_held_out(encoded.dictionary.to_pylist(), val_fraction=fraction, seed=seed)
        split = pc.if_else(pa.array(is_val).take(encoded.indices), "val", "train")
        made = (caption_ids, image_ids, captions, image_ids, keys, split)
        return pa.RecordBatch.from_arrays([column.cast(pa.string()) for column in made], schema=PAIR_SCHEMA)

    def _refuse_repeats(self, block: pa.RecordBatch, rows: np.ndarray) -> None:
        samples = block["sample_index"].to_numpy()
        for sample in np.unique(samples).tolist():
            # A byte a caption and sample: repeats are found across blocks without keeping the ids.
            seen = self._seen.setdefault(sample, np.zeros(len(self._order), dtype=bool))
            chosen = np.flatnonzero(samples == sample)
            is_repeat = np.zeros(len(rows), dtype=bool)
            is_repeat[chosen] = seen[rows[chosen]] | pd.Series(rows[chosen]).duplicated().to_numpy()
            self._refuse(block, is_repeat, "repeats the caption_id and sample_index of a row before it")
            seen[rows[chosen]] = True

    def _refuse_leaks(self, pairs: pa.RecordBatch, real_images: np.ndarray) -> None:
        is_kept_out = np.isin(real_images, self._kept_out)
        if not is_kept_out.any():
            return
        first = int(is_kept_out.argmax())
        of_it = (self._index.image_hash == real_images[first]) & (self._index.split != TRAIN)
        split = SPLITS[self._index.split[of_it][0]]
        raise ValueError(
            f"{int(is_kept_out.sum())} pairs show real images the corpus keeps out of training (so far: the manifest "
            f"is read by blocks). The first, {pairs.slice(first, 1).to_pylist()[0]}, shows one of its {split} split. "
            "Make the corpus's splits disjoint by image_id."
        )

    def _count_real_images(self, pairs: pa.RecordBatch, real_images: np.ndarray) -> None:
        is_val = pc.equal(pairs["split"], "val").to_numpy(zero_copy_only=False)
        self._real_images["val"].append(real_images[is_val])
        self._real_images["train"].append(real_images[~is_val])

    def _refuse_empty_split(self) -> None:
        hashes = {name: np.concatenate(parts) for name, parts in self._real_images.items()}
        if not all(map(len, hashes.values())):
            counts = {name: len(np.unique(values)) for name, values in hashes.items()}
            _refuse_division(counts, self._params, "Change the fraction or the seed, or generate for more real images")

    def _refuse(self, block: pa.RecordBatch, bad: np.ndarray, what: str) -> None:
        if bad.any():
            row: dict[str, Any] = block.slice(int(bad.argmax()), 1).to_pylist()[0]
            raise ValueError(
                f"{int(bad.sum())} rows cannot be paired among the first {self._row_count} of the manifest. The first, "
                f"{row}, {what}. {REMAKE}"
            )


class _Sharing:
    """Which captions share an image."""

    def __init__(self, index: CaptionIndex, choice: Choice) -> None:
        order = np.argsort(choice.sources, kind="stable")
        self._sources, self._rows = choice.sources[order], choice.rows[order]
        self.texts = index.table.to_table(columns=["caption_id", "image_id", "caption"])

    def is_source(self, rows: np.ndarray) -> np.ndarray:
        """Says of captions whether an image was planned for each, bool [N]."""
        places = np.minimum(np.searchsorted(self._sources, rows), len(self._sources) - 1)
        return self._sources[places] == rows

    def members(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns for each caption that shares an image the image's place in ``rows``, and the caption's own row."""
        starts = np.searchsorted(self._sources, rows, side="left")
        counts = np.searchsorted(self._sources, rows, side="right") - starts
        of_image = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(of_image)) - np.repeat(np.cumsum(counts) - counts, counts)
        return of_image, self._rows[starts[of_image] + within]
