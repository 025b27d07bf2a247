"""Files of text as UTF-8, whatever a spreadsheet or an editor saved them as."""

import io
import json
from pathlib import Path
from typing import BinaryIO

MARK = b"\xef\xbb\xbf"


def open_utf8(path: Path) -> BinaryIO:
    """Opens a file of text as UTF-8 without a byte order mark; one in UTF-16 or UTF-32 is converted in memory.

    Args:
        path: The file.

    Raises:
        ValueError: If it begins as UTF-16 or UTF-32 and does not go on so.
    """
    file = path.open("rb")
    head = file.read(4)
    if not json.detect_encoding(head).startswith("utf-8"):
        with file:
            return io.BytesIO(to_utf8(head + file.read(), what=f"file '{path}'"))
    file.seek(len(MARK) if head.startswith(MARK) else 0)
    return file


def read_text(path: Path, *, what: str) -> str:
    """Returns a whole file of text, in UTF-8, UTF-16 or UTF-32.

    Args:
        path: The file.
        what: What the file is to the reader, for the message.

    Raises:
        ValueError: If it is in another encoding; the message gives the place.
    """
    try:
        return to_utf8(path.read_bytes(), what=f"{what} '{path}'").decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The {what} '{path}' must be UTF-8. Got byte {error.object[error.start]:#04x} at position {error.start}. "
            "Save it as UTF-8."
        ) from error


def to_utf8(content: bytes, *, what: str) -> bytes:
    """Returns text as UTF-8 without a byte order mark.

    Args:
        content: UTF-8, UTF-16 or UTF-32: its mark says which, or where the first characters have their zero bytes.
            What is neither is returned as it is.
        what: What the message calls it.

    Raises:
        ValueError: If it begins as UTF-16 or UTF-32 and does not go on so.
    """
    encoding = json.detect_encoding(content[:4])
    if encoding.startswith("utf-8"):
        return content.removeprefix(MARK)
    try:
        return content.decode(encoding).encode()
    except UnicodeDecodeError as error:
        name = encoding.upper()
        raise ValueError(
            f"The {what} begins as {name} but is not: {error.reason} at byte {error.start}. Save it as UTF-8."
        ) from error
