"""Reads one JSON file, with errors that say which file and what to do."""

import json
from pathlib import Path
from typing import Any


def read_json(path: Path, *, what: str) -> Any:
    """Returns the content of a UTF-8 JSON file; a byte order mark is skipped.

    Args:
        path: The file.
        what: What the file is to the reader, for the messages.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not UTF-8 or not JSON; the message gives the place.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"The {what} '{path.absolute()}' does not exist. Put it there, or correct its path in conf/*/catalog*.yml."
        )
    try:
        return json.loads(path.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"The {what} '{path}' must be UTF-8. Got byte {error.object[error.start]:#04x} at position {error.start}. "
            "Save it as UTF-8."
        ) from error
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(
            f"The {what} '{path}' must be JSON. Got an error at {place}: {error.msg}. "
            "If the download broke off, fetch the file again."
        ) from error
