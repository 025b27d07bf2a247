"""Reads ShareGPT4V's long captions, entry by entry: the file has over a million and more than a gigabyte."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from gmail_kedro.corpora.caption_table import TEXT, CaptionBlocks, CaptionTable
from gmail_kedro.corpora.caption_text import encode_text
from gmail_kedro.corpora.find_files import find_images, require_file, require_folder
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.corpora.text_files import open_utf8
from gmail_kedro.images.image_files import ImageFiles

BLOCK_ROWS = 16_384
SPEAKER = "gpt"
UNANSWERED = f"entry in which {SPEAKER} says nothing"


def read_sharegpt4v(
    annotations: Path, images: Path, *, name: str, home: str = "", skip_missing: bool = False
) -> CaptionTable:
    """Returns the captions of a ShareGPT4V file, in file order.

    The file holds ``[{"id", "image", "conversations": [{"from", "value"}, ...]}, ...]``; the caption is the first that
    ``gpt`` says, wherever it stands. An image is called by its path below ``images``; a caption by its position in
    the file, because the ids are not unique. The arguments are those of ``read_table``.
    """
    annotations = require_file(annotations, name=name, home=home)
    source = ImageFiles(require_folder(images, name=name, home=home))
    skipped = Skipped()
    blocks = CaptionBlocks(("caption_id", "image_id", "caption"), skipped)
    entries = enumerate(_stream(annotations, name))
    while block := list(islice(entries, BLOCK_ROWS)):
        read = (_read_entry(entry, str(position), annotations, name, skipped) for position, entry in block)
        rows = [row for row in read if row is not None]
        ids = pa.array([row[0] for row in rows], TEXT)
        paths = pa.array([encode_text(row[1]) for row in rows], pa.large_binary())
        named, usable = find_images(paths, ids, source.folder, skipped, skip_missing=skip_missing)
        found = zip(rows, named.to_pylist(), usable.to_pylist(), strict=True)
        blocks.add_rows([(row[0], path, row[2]) for row, path, is_usable in found if is_usable])
    captions = blocks.frame()
    # The benchmark of the first 1,000 goes by the position in the file, also where entries are left out.
    return CaptionTable(captions.assign(position=captions["caption_id"].astype("int64")), source, skipped)


def _stream(annotations: Path, name: str) -> Iterator[Any]:
    import ijson

    with open_utf8(annotations) as file:
        try:
            # use_float: Decimal, ijson's own, is no JSON value to the rest.
            yield from ijson.items(file, "item", use_float=True)
        except ijson.JSONError as error:
            raise ValueError(
                f"The annotations file '{annotations}' of the corpus {name!r} must be a JSON list. Got an error near "
                f"byte {file.tell()}: {str(error).splitlines()[0]}. If the download broke off, fetch it again."
            ) from error


def _read_entry(
    entry: Any, position: str, annotations: Path, name: str, skipped: Skipped
) -> tuple[str, str | None, Any] | None:
    """Returns the caption's id, the image's path and the caption; None, counted, if there is no answer."""
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(
            f"Corpus {name!r}, '{annotations}', entry {position}: must be {{id, image, conversations: [{{from: human, "
            f"value: question}}, {{from: {SPEAKER}, value: caption}}]}}. Got {entry!r:.120} instead. Correct the file "
            "or its layout in the catalog entry."
        )
    # By the speaker, not by the place: some entries begin with the answer, others with a system prompt.
    answers = [turn.get("value") for turn in turns if turn.get("from") == SPEAKER]
    if not answers:
        skipped.add(UNANSWERED, position)
        return None
    path = entry.get("image")
    return position, path if isinstance(path, str) else None, answers[0]
