"""Reads ShareGPT4V's long captions, entry by entry: the file has over a million and more than a gigabyte."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from gmail_kedro.corpora.columns import TEXT, CaptionColumns, Reading
from gmail_kedro.corpora.encodings import open_utf8
from gmail_kedro.corpora.picture_files import find_pictures
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.texts import encode_text
from gmail_kedro.corpora.tree import TreeImages, require_file, require_folder

BLOCK_ROWS = 16_384
SPEAKER = "gpt"
UNANSWERED = f"entry in which {SPEAKER} says nothing"


def read_sharegpt4v(
    annotations: Path, images: Path, *, name: str, home: str = "", skip_missing: bool = False
) -> Reading:
    """Returns the captions of a ShareGPT4V file, in file order.

    The file holds ``[{"id", "image", "conversations": [{"from", "value"}, ...]}, ...]``; the caption is the first that
    ``gpt`` says, wherever it stands. A picture is called by its path below ``images``; a caption by its position in
    the file, because the ids are not unique. Line ends become spaces.

    Args:
        annotations: The JSON file.
        images: The folder of the pictures.
        name: What messages call the corpus.
        home: Where the files come from, for messages.
        skip_missing: Leave out, and count, the entries whose picture is not there.

    Raises:
        FileNotFoundError: If the file or the folder does not exist.
        ValueError: If the file is not of this layout.
    """
    annotations = require_file(annotations, name=name, home=home)
    pictures = TreeImages(require_folder(images, name=name, home=home))
    skipped = Skipped()
    columns = CaptionColumns(("caption_id", "image_id", "caption"), skipped)
    entries = enumerate(_stream(annotations, name))
    while block := list(islice(entries, BLOCK_ROWS)):
        rows = [_read_entry(entry, str(position), annotations, name, skipped) for position, entry in block]
        ids, paths, captions = map(list, zip(*filter(None, rows), strict=True)) if any(rows) else ([], [], [])
        named, usable = find_pictures(
            pa.array(map(encode_text, paths), pa.large_binary()), pa.array(ids, TEXT), pictures, skipped,
            skip_missing=skip_missing,
        )  # fmt: skip
        found = zip(ids, named.to_pylist(), captions, usable.to_pylist(), strict=True)
        columns.add_rows([row[:3] for row in found if row[3]], label="caption_id")
    captions = columns.frame()
    return Reading(captions.assign(position=captions["caption_id"].astype("int64")), pictures, skipped)


def _stream(annotations: Path, name: str) -> Iterator[Any]:
    import ijson

    with open_utf8(annotations) as file:
        try:
            yield from ijson.items(file, "item", use_float=True)
        except ijson.JSONError as error:
            raise ValueError(
                f"The annotations file '{annotations}' of the corpus {name!r} must be a JSON list. Got an error near "
                f"byte {file.tell()}: {str(error).splitlines()[0]}. If the download broke off, fetch it again."
            ) from error


def _read_entry(
    entry: Any, position: str, annotations: Path, name: str, skipped: Skipped
) -> tuple[str, str | None, Any] | None:
    """Returns the caption's id, the picture's path and the caption; None, counted, if there is no answer."""
    turns = entry.get("conversations") if isinstance(entry, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise ValueError(
            f"Corpus {name!r}, '{annotations}', entry {position}: must be {{id, image, conversations: [{{from: human, "
            f"value: question}}, {{from: {SPEAKER}, value: caption}}]}}. Got {entry!r:.120} instead. Correct the file "
            "or its layout in the catalog entry."
        )
    answers = [turn.get("value") for turn in turns if turn.get("from") == SPEAKER]
    if not answers:
        skipped.add(UNANSWERED, position)
        return None
    path = entry.get("image")
    return position, path if isinstance(path, str) else None, answers[0]
