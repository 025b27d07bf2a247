"""The captions of a corpus, checked once and known by hashes from then on, so that millions fit in memory.

Texts stay in the table and are read block by block; what is compared across the whole corpus are 64-bit hashes of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from gmail_kedro.generated_sets.block_tables import Table, as_dataset, hash_texts, read_blocks
from gmail_kedro.interfaces import SPLITS

CAPTION_COLUMNS = ("caption_id", "image_id", "caption", "split")
TRAIN = SPLITS.index("train")
# A byte-order mark alone is what an empty first line of a Windows file leaves.
_BLANKS = "".join(sign for sign in map(chr, range(0x3001)) if sign.isspace()) + "\ufeff"


@dataclass(frozen=True)
class CaptionIndex:
    """What is kept of each caption of a corpus, in file order: 17 or 25 bytes."""

    table: ds.Dataset  # the captions themselves
    caption_hash: np.ndarray  # of the caption's id, uint64 [N]
    image_hash: np.ndarray  # of its real image's id, uint64 [N]
    split: np.ndarray  # its place in ``SPLITS``, int8 [N]
    text_hash: np.ndarray  # of its text, uint64 [N], or [0] where nobody asked for it


def check_captions(captions: Table) -> None:
    """Refuses a captions table that cannot be planned; see ``index_captions``."""
    index_captions(captions)


def index_captions(captions: Table, *, with_texts: bool = False) -> CaptionIndex:
    """Returns what planning and pairing need to know of every caption, read block by block.

    Args:
        captions: One row a caption: ``caption_id``, ``image_id``, ``caption``, ``split``, all text.
        with_texts: Whether the captions' texts are hashed, too.

    Raises:
        ValueError: If it is empty, lacks a column, repeats a caption id, holds an id that is not text, an
            unknown split, or a training caption that is blank or has a NUL character.
    """
    names = captions.columns if isinstance(captions, pd.DataFrame) else as_dataset(captions).schema.names
    missing = [name for name in CAPTION_COLUMNS if name not in names]
    if missing:
        raise ValueError(f"The captions table lacks {missing}; expected the columns {list(CAPTION_COLUMNS)}.")
    if isinstance(captions, pd.DataFrame):
        # Before Arrow sees it: a column of 7 and "7" would fail there in words that name neither row nor remedy.
        _refuse_other_types(captions)
        captions = captions[list(CAPTION_COLUMNS)]
    table = as_dataset(captions)
    hashed = ("caption_id", "image_id", "caption") if with_texts else ("caption_id", "image_id")
    parts = [_index_block(block, hashed) for block in read_blocks(table, CAPTION_COLUMNS)]
    if not parts:
        raise ValueError("The captions table is empty; expected one row a caption. Check the corpus entry's path.")
    split, captions_hash, images_hash, *texts_hash = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    index = CaptionIndex(table, captions_hash, images_hash, split, *texts_hash or [np.empty(0, np.uint64)])
    _refuse_repeats(index)
    return index


def hash_contents(table: ds.Dataset) -> np.ndarray:
    """Returns a hash of each caption's text after white space is normalised, uint64 [N]."""
    parts = []
    for block in read_blocks(table, ["caption"]):
        texts = pc.fill_null(block["caption"], "").to_pylist()
        parts.append(hash_texts(pa.array([" ".join(text.split()) for text in texts])))
    return np.concatenate(parts)


def _index_block(block: pa.RecordBatch, hashed: Sequence[str]) -> tuple[np.ndarray, ...]:
    for name in ("caption_id", "image_id"):
        if block[name].null_count or not _is_text(block[name].type):
            value = next((value for value in block[name].to_pylist() if not isinstance(value, str)), None)
            raise ValueError(_id_advice(name, value, "a row"))
    # Strict: a split such as "restval" would silently be left out of both training and measuring.
    split = pc.index_in(block["split"], pa.array(SPLITS, block["split"].type))
    if split.null_count:
        row = block.filter(pc.is_null(split)).slice(0, 1).to_pylist()[0]
        raise ValueError(
            f"The split of caption {row['caption_id']!r} is {row['split']!r}; expected one of {list(SPLITS)}. "
            f"{split.null_count} rows of its block are like this: map them in the corpus reader."
        )
    # Captions of val and test are prompts of nothing, and a corpus is free to have blank ones there.
    _refuse_bad_texts(block.filter(pc.equal(split, TRAIN)))
    return split.to_numpy(zero_copy_only=False).astype(np.int8), *(hash_texts(block[name]) for name in hashed)


def _refuse_bad_texts(train: pa.RecordBatch) -> None:
    texts = train["caption"].cast(pa.large_string())  # a column of nothing has no type
    blank = pc.fill_null(pc.equal(pc.utf8_trim(texts, characters=_BLANKS), ""), True)
    if pc.any(blank).as_py():
        raise ValueError(
            f"The caption {train.filter(blank)['caption_id'][0].as_py()!r} is blank ({blank.true_count} training "
            "captions of its block are); an image needs a prompt. Remove these rows from the corpus."
        )
    # What a file of another encoding leaves, UTF-16 read as UTF-8 above all: every prompt of it would be nonsense.
    broken = pc.match_substring(texts, "\0")
    if pc.any(broken).as_py():
        raise ValueError(
            f"The caption {train.filter(broken)['caption_id'][0].as_py()!r} has a NUL character; the corpus file is "
            "damaged or not text. Repair or remove the row."
        )


def _refuse_other_types(captions: pd.DataFrame) -> None:
    """Refuses ids that are not text, as only a data frame can hold them among others."""
    for name in ("caption_id", "image_id"):
        values = captions[name]
        if len(values) and pd.api.types.infer_dtype(values, skipna=False) != "string":
            row, value = next((i, v) for i, v in enumerate(values) if not isinstance(v, str))
            raise ValueError(_id_advice(name, value, f"row {row}"))


def _id_advice(name: str, value: object, where: str) -> str:
    return (
        f"{name} must be text. Got {value!r} ({type(value).__name__}) in {where}; "
        "convert the column with astype(str) in the corpus reader."
    )


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _refuse_repeats(index: CaptionIndex) -> None:
    ordered = np.sort(index.caption_hash)
    suspects = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(suspects):
        return
    ids: list[str] = []  # only of rows whose hash occurs twice: the texts of all would not fit
    for block in read_blocks(index.table, ["caption_id"]):
        ids += block["caption_id"].filter(pa.array(np.isin(hash_texts(block["caption_id"]), suspects))).to_pylist()
    counts = pd.Series(ids).value_counts(sort=False)
    repeated = counts[counts > 1]
    if len(repeated):  # otherwise two ids only had the same hash
        raise ValueError(
            f"The caption_id {repeated.index[0]!r} occurs more than once ({repeated.sum()} rows share an id "
            "with another); every caption needs an id of its own."
        )
