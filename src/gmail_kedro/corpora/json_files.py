"""Reads one JSON file, with errors that say which file and what to do."""

import json
from pathlib import Path
from typing import Any

from gmail_kedro.corpora.encodings import read_text


def read_json(path: Path, *, what: str) -> Any:
    """Returns the content of a JSON file in UTF-8, or in UTF-16 or UTF-32 as JSON allows.

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
        return json.loads(read_text(path, what=what))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(
            f"The {what} '{path}' must be JSON. Got an error at {place}: {error.msg}. "
            "If the download broke off, fetch the file again."
        ) from error


def read_id(entry: Any, key: str, where: str) -> str:
    """Returns an id, a number or a text in the file, as text.

    Args:
        entry: What should be an object with the id.
        key: Its key.
        where: What the message calls the entry.

    Raises:
        ValueError: If it is neither, such as null, a boolean or a list.
    """
    value = entry.get(key) if isinstance(entry, dict) else None
    is_id = isinstance(value, int | str) and not isinstance(value, bool) and str(value).strip()
    if not is_id:
        raise ValueError(f"{where}: '{key}' must be an integer or a string. Got {value!r} instead. Correct the file.")
    return str(value)
