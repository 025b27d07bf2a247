"""The captions of one text: of a file beside a picture, or of a sample in a tar."""

import json
from contextlib import suppress

from gmail_kedro.corpora.encodings import to_utf8
from gmail_kedro.corpora.lists import read_written_list

Captions = list[tuple[int, bytes | None]]


def caption_lines(content: bytes) -> Captions:
    """Returns the lines that are not blank, each with its number in the text, from 0.

    A text that is a list written out, as ``read_written_list`` has it, gives the captions of the list.

    Args:
        content: UTF-8 or UTF-16, also with a byte order mark. The lines are not decoded: what is neither is counted
            with the captions.
    """
    with suppress(ValueError):
        content = to_utf8(content, what="text")
    with suppress(UnicodeDecodeError):
        if listed := read_written_list(content.decode()):
            return _numbered(listed)
    lines = content.splitlines()
    return [(number, line) for number, line in enumerate(lines) if line.strip()]


def json_captions(content: bytes, key: str) -> Captions:
    """Returns the caption under a key, or each of a list of them with its place; a null in a list is None.

    The list may be written out as text.

    Args:
        content: A JSON object.
        key: Where the captions are.

    Raises:
        ValueError: If there is none, or one is no text; the message is the reason it is counted under.
    """
    try:
        found = json.loads(content)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if found in (None, []):
        raise ValueError(f"json without a caption {key!r}")
    written = read_written_list(found) if isinstance(found, str) else None
    listed = found if isinstance(found, list) else written or [found]
    if any(not isinstance(caption, str | None) for caption in listed):
        raise ValueError(f"json whose caption {key!r} is neither text nor a list of texts")
    return _numbered(listed)


def _numbered(captions: list[str | None]) -> Captions:
    texts = (None if caption is None else caption.encode(errors="surrogatepass") for caption in captions)
    return list(enumerate(texts))
