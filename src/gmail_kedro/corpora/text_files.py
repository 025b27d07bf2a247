"""Files of text and JSON as UTF-8, whatever a spreadsheet or an editor saved them as.

Excel saves "Unicode text" as UTF-16 and "CSV UTF-8" with a byte order mark; Windows editors do likewise.
"""

import io
import json
from pathlib import Path
from typing import Any, BinaryIO

MARK = b"\xef\xbb\xbf"


def open_utf8(path: Path) -> BinaryIO:
    """Opens a file of text as UTF-8 without a byte order mark."""
    file = path.open("rb")
    head = file.read(4)
    if not json.detect_encoding(head).startswith("utf-8"):
        with file:
            # In memory: Arrow's readers and a count of bytes need a file they can seek in.
            return io.BytesIO(to_utf8(head + file.read(), what=f"file '{path}'"))
    file.seek(len(MARK) if head.startswith(MARK) else 0)
    return file


def to_utf8(content: bytes, *, what: str) -> bytes:
    """Returns text as UTF-8 without a byte order mark; what is no Unicode at all is returned as it is.

    Raises:
        ValueError: If it begins as UTF-16 or UTF-32 and does not go on so; the message calls it ``what``.
    """
    # By its mark, or by where the first characters have their zero bytes.
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


def read_text(path: Path, *, what: str) -> str:
    """Returns a whole file of text in UTF-8, UTF-16 or UTF-32; an error calls it ``what`` and gives the place."""
    try:
        return to_utf8(path.read_bytes(), what=f"{what} '{path}'").decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The {what} '{path}' must be UTF-8. Got byte {error.object[error.start]:#04x} at position {error.start}. "
            "Save it as UTF-8."
        ) from error


def read_json(path: Path, *, what: str) -> Any:
    """Returns the content of a JSON file; an error calls it ``what`` and gives the place."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"The {what} '{path.absolute()}' does not exist. Put it there, or correct its path in conf/*/catalog*.yml."
        )
    try:
        return json.loads(read_text(path, what=what))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(
            f"The {what} '{path}' must be JSON. Got an error at {place}: {error.msg}. "
            "If the download broke off, fetch the file again."
        ) from error


def read_id(entry: Any, key: str, where: str) -> str:
    """Returns an id, a number or a text in a JSON file, as text; an error calls the entry ``where``."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if not isinstance(value, int | str) or isinstance(value, bool) or not str(value).strip():
        raise ValueError(f"{where}: '{key}' must be an integer or a string. Got {value!r} instead. Correct the file.")
    return str(value)
