"""Reads ShareGPT4V's long captions, entry by entry: the file has over a million and more than a gigabyte."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from gmail_kedro.corpora.columns import TEXT, CaptionColumns, Reading
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.table import count_absent
from gmail_kedro.corpora.tree import TreeImages, escapes, require_file, require_folder

BLOCK_ROWS = 16_384


def read_sharegpt4v(
    annotations: Path, images: Path, *, name: str, home: str = "", skip_missing: bool = False
) -> Reading:
    """Returns the captions of a ShareGPT4V file, in file order.

    The file holds ``[{"id", "image", "conversations": [{question}, {"value": caption}]}, ...]``. A picture is called
    by its path below ``images``; a caption by its position in the file, because the ids are not unique. Line ends
    become spaces.

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
        rows = [(str(position), *_read_entry(entry, position, annotations, name)) for position, entry in block]
        ids, paths, captions = (pa.array(column, TEXT) for column in zip(*rows, strict=True))
        usable = count_absent(paths, escapes(paths), pictures, skipped, skip_missing=skip_missing)
        columns.add(ids.filter(usable), paths.filter(usable), captions.filter(usable), label="image_id")
    found = columns.frame()
    return Reading(found.assign(position=found["caption_id"].astype("int64")), pictures, skipped)


def _stream(annotations: Path, name: str) -> Iterator[Any]:
    import ijson

    with annotations.open("rb") as file:
        try:
            yield from ijson.items(file, "item", use_float=True)
        except ijson.JSONError as error:
            raise ValueError(
                f"The annotations file '{annotations}' of the corpus {name!r} must be a JSON list. Got an error near "
                f"byte {file.tell()}: {str(error).splitlines()[0]}. If the download broke off, fetch it again."
            ) from error


def _read_entry(entry: Any, position: int, annotations: Path, name: str) -> tuple[str, str]:
    """Returns the picture's path and the caption."""
    try:
        path, caption = entry["image"], entry["conversations"][1]["value"]
        if isinstance(path, str) and path and isinstance(caption, str):
            return path, caption
        reason = "'image' and conversations[1].value must be strings"
    except (TypeError, KeyError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
    raise ValueError(
        f"Corpus {name!r}, '{annotations}', entry {position}: must be {{id, image, conversations: [question, "
        f"caption]}} ({reason}). Got {entry!r:.120} instead. Correct the file or its layout in the catalog entry."
    )
