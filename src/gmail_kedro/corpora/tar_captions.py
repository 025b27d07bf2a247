"""The captions of one WebDataset tar, read once and kept as Parquet for the next run."""

import json
import logging
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from gmail_kedro.corpora.caption_texts import Captions, caption_lines, json_captions
from gmail_kedro.corpora.tar_index import index_tar
from gmail_kedro.images.decoding import PICTURE_ENDINGS
from gmail_kedro.whole_files import atomic_write

logger = logging.getLogger(__name__)

INDEX_SCHEMA = pa.schema(
    [
        ("caption_id", pa.large_string()),
        ("key", pa.large_string()),
        ("caption", pa.large_binary()),
        ("offset", pa.uint64()),
        ("size", pa.uint32()),
    ]
)
INDEX_VERSION = 4  # raised whenever other captions, ids or pictures are taken from the same tar


def read_tar_captions(path: Path, folder: Path | None, caption_key: str | None) -> pa.Table:
    """Returns each caption of a tar with the place of its picture, as ``INDEX_SCHEMA`` has it.

    Its metadata ``facts`` is JSON: ``fault``, why the tar could not be read to its end, or null; and ``skipped``, the
    count and an example of what was left out, by reason.

    Args:
        path: The tar.
        folder: Where what was found is kept, and found again as long as the tar is the same; None keeps nothing.
        caption_key: Key of the caption, or the list of captions, in each ``.json``; None takes the ``.txt``.
    """
    if folder is None:
        return _index(path, caption_key, {})
    stat = path.stat()
    times = [stat.st_mtime_ns, stat.st_ctime_ns]  # a tar may be written anew with the old times of its making
    origin = {"bytes": stat.st_size, "changed": times, "key": caption_key, "version": INDEX_VERSION}
    origin["endings"] = sorted(PICTURE_ENDINGS)
    stored = folder / f"{path.stem}.parquet"
    if stored.is_file():
        try:
            schema = parquet.read_schema(stored)
            if json.loads((schema.metadata or {}).get(b"facts", b"{}")).get("origin") == origin:
                return parquet.read_table(stored)
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            logger.warning("The index %s is damaged and is made anew: %s", stored, error)
    table = _index(path, caption_key, origin)
    with atomic_write(stored) as partial:
        parquet.write_table(table, partial, compression="zstd")
    return table


def _index(path: Path, caption_key: str | None, origin: dict[str, Any]) -> pa.Table:
    found = index_tar(path, text_ending="txt" if caption_key is None else "json")
    names, rows = set(found.keys), []
    for key, content, *place in zip(found.keys, found.texts, found.offsets, found.sizes, strict=True):
        try:
            captions = _captions(content, caption_key)
            ids = [key] if len(captions) == 1 else [f"{key}-{number}" for number, _ in captions]
            if len(ids) > 1 and not names.isdisjoint(ids):
                raise ValueError("several captions, one of them with the name of another sample")
            texts = zip(ids, captions, strict=True)
            rows += [(f"{path.stem}/{id_}", f"{path.stem}/{key}", text, *place) for id_, (_, text) in texts]
        except ValueError as error:
            found.skipped.add(str(error), f"{path.name}:{key}")
    facts = {"origin": origin, "fault": found.fault, "skipped": found.skipped.summary}
    columns = zip(*rows, strict=True) if rows else [()] * len(INDEX_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, INDEX_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=INDEX_SCHEMA.with_metadata({"facts": json.dumps(facts)}))


def _captions(content: bytes, caption_key: str | None) -> Captions:
    if caption_key is not None:
        return json_captions(content, caption_key)
    return caption_lines(content) or [(0, content)]  # which is counted as blank
