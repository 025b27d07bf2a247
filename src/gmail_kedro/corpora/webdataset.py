"""Reads corpora that are WebDataset tars (CC3M, CC12M as img2dataset and the hub's mirrors write them).

Captions are read once, tar by tar, and kept as Parquet for the next run, which need not open a tar.
"""

import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet
from tqdm import tqdm

from gmail_kedro.corpora.caption_table import CaptionBlocks, CaptionTable
from gmail_kedro.corpora.caption_text import caption_lines, json_captions
from gmail_kedro.corpora.skipped_entries import SKIP_LIMIT, Skipped
from gmail_kedro.corpora.tar_index import TarImages, find_tars, index_tar
from gmail_kedro.images.decoding import IMAGE_ENDINGS
from gmail_kedro.whole_files import atomic_write

logger = logging.getLogger(__name__)

INDEX_SCHEMA = pa.schema(  # one row a caption; offset and size are its image's place in the tar
    [
        ("caption_id", pa.large_string()),
        ("key", pa.large_string()),
        ("caption", pa.large_binary()),
        ("offset", pa.uint64()),
        ("size", pa.uint32()),
    ]
)
INDEX_VERSION = 5  # raised whenever other captions, ids, images or reasons are taken from the same tar


def read_webdataset(
    tars: str,
    *,
    name: str,
    home: str = "",
    index: Path | None = None,
    caption_key: str | None = None,
    fault_limit: float = SKIP_LIMIT,
) -> CaptionTable:
    """Returns the captions of WebDataset tars, tar by tar in the order of their names.

    An image is called ``name of the tar/key of the sample``, and so is its caption where it is the only one. Of
    several, which are the lines of the ``.txt`` or a list in the ``.json``, each has its place behind the name:
    ``00000/000000007-0``.

    Args:
        tars: A pattern such as ``data/01_raw/cc3m/*.tar``; the tars must not be compressed.
        name: What messages call the corpus.
        home: Where the files come from, for messages.
        index: A folder for what was found, so that the next run need not read the tars; None keeps nothing.
        caption_key: Key of the caption, or the list of captions, in each ``.json``; None takes the ``.txt``.
        fault_limit: Largest share of the tars that may be cut off or damaged; what is whole in them is used.

    Raises:
        FileNotFoundError: If no tar is there.
        ValueError: If two tars share a name or are one file, or too many cannot be read to their end.
    """
    paths = _different_tars(tars, name, home)
    skipped, faults, parts = Skipped(), [], []
    blocks = CaptionBlocks(("caption_id", "image_id", "caption"), skipped, label="image_id")
    for number, path in enumerate(tqdm(paths, desc=f"reading the tars of {name}", disable=None, leave=False)):
        found = read_tar_captions(path, None if index is None else Path(index), caption_key)
        facts = json.loads(found.schema.metadata[b"facts"])
        if facts["fault"] is not None:
            faults.append(f"{path.name} ({facts['fault']})")
        for reason, (count, example) in facts["skipped"].items():
            skipped.add(reason, example, count=count)
        kept = found.filter(blocks.add(found["caption_id"], found["key"], found["caption"]))
        # The captions of an image follow one another: its first row stands for it.
        names = kept["key"].to_numpy()
        is_first = np.r_[np.ones(min(1, len(names)), bool), names[1:] != names[:-1]]
        places = (kept[column].to_numpy()[is_first] for column in ("offset", "size"))
        parts.append((is_first, np.full(is_first.sum(), number, np.uint32), *places))
    _refuse_faults(faults, len(paths), fault_limit, name)
    captions = blocks.frame()
    is_first, tar_numbers, offsets, sizes = (np.concatenate(column) for column in zip(*parts, strict=True))
    keys = pa.array(captions["image_id"][is_first], pa.large_string())
    return CaptionTable(captions, TarImages(paths, keys, tar_numbers, offsets, sizes), skipped)


def read_tar_captions(path: Path, folder: Path | None, caption_key: str | None) -> pa.Table:
    """Returns each caption of a tar with the place of its image, as ``INDEX_SCHEMA`` has it.

    Its metadata ``facts`` is JSON: ``fault``, why the tar could not be read to its end, or null; and ``skipped``, the
    count and an example of what was left out, by reason. It is kept in the folder, where there is one, and found again
    as long as the tar is the same.
    """
    if folder is None:
        return _index(path, caption_key, {})
    facts = path.stat()
    # Reproducible tars are written anew with the old times of their making: only the ctime tells.
    times = [facts.st_mtime_ns, facts.st_ctime_ns]
    origin = {"bytes": facts.st_size, "changed": times, "key": caption_key, "version": INDEX_VERSION}
    origin["endings"] = sorted(IMAGE_ENDINGS)  # differ between builds of Pillow
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
    names, rows = {sample.key for sample in found.samples}, []
    for key, text, *place in found.samples:
        try:
            # A text without a line is kept, to be counted as a blank caption.
            lines = caption_lines(text) or [(0, text)] if caption_key is None else json_captions(text, caption_key)
            ids = [key] if len(lines) == 1 else [f"{key}-{number}" for number, _ in lines]
            if len(ids) > 1 and not names.isdisjoint(ids):
                raise ValueError("several captions, one of them with the name of another sample")
            captions = zip(ids, lines, strict=True)
            rows += [(f"{path.stem}/{id_}", f"{path.stem}/{key}", caption, *place) for id_, (_, caption) in captions]
        except ValueError as error:
            found.skipped.add(str(error), f"{path.name}:{key}")
    facts = {"origin": origin, "fault": found.fault, "skipped": found.skipped.summary}
    columns = zip(*rows, strict=True) if rows else [()] * len(INDEX_SCHEMA)
    arrays = [pa.array(column, field.type) for column, field in zip(columns, INDEX_SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=INDEX_SCHEMA.with_metadata({"facts": json.dumps(facts)}))


def _different_tars(tars: str, name: str, home: str) -> list[Path]:
    paths = find_tars(tars, name=name, home=home)
    stems = Counter(path.stem for path in paths)
    repeated = [stem for stem, count in stems.items() if count > 1]
    if repeated:
        raise ValueError(
            f"The tars of the corpus {name!r} must have different names, which become part of the image ids. "
            f"{repeated[:3]} occur more than once in '{tars}'. Rename them or narrow the pattern."
        )
    places: dict[Path, Path] = {}
    for path in paths:
        if (known := places.setdefault(path.resolve(), path)) != path:
            raise ValueError(
                f"The tars of the corpus {name!r} must be different files, but '{path}' and '{known}' are one. Remove "
                "the link, or narrow the pattern."
            )
    return paths


def _refuse_faults(faults: list[str], total: int, limit: float, name: str) -> None:
    if not faults:
        return
    shown = "".join(f"\n- {fault}" for fault in faults[:5])
    if len(faults) > limit * total:
        raise ValueError(
            f"{len(faults)} of the {total} tars of the corpus {name!r} cannot be read to their end; its fault_limit "
            f"allows {limit:.2%}. Fetch them again, or raise fault_limit to use what is whole in them:{shown}"
        )
    logger.warning("Corpus %s: tars that cannot be read to their end, used as far as they go:%s", name, shown)
