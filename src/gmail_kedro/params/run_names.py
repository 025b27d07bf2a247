"""Names of runs and sets: they become folders, so they are held to one rule before anything runs."""

import re
from collections.abc import Collection

from gmail_kedro.params.base import ParameterError

_NAME = re.compile(r"\w[\w.:-]{0,99}")
_GROUPED = re.compile(r"(repro\w*|study/[^/]*)/(?P<name>[^/]*)")  # a reproduction's cells, a study's variants
_WORDS = "letters, digits, '_', '-', ':' and '.', beginning with a letter, a digit or '_', at most 100 of them"


def check_name(where: str, value: object, *, taken: Collection[str] = (), dots: bool = True) -> None:
    """Refuses what is no name of one folder.

    Args:
        where: What is named, such as ``set`` or ``conf/base/sets.yml: sets.mini_sd``.
        value: The name.
        taken: Names of folders that something else lies in.
        dots: Whether it may have dots; names that files declare may not, as DVC reads ``runs.a.b`` as b of a.

    Raises:
        ParameterError: If it is not text, or no name.
    """
    name = _text(where, value)
    if not _NAME.fullmatch(name):
        raise ParameterError(f"{where} must be a name: {_WORDS}. Got {name!r} instead.")
    if name in taken:
        raise ParameterError(f"{where} must not be {name!r}: something else lies in that folder. Choose another name.")
    if not dots and "." in name:
        raise ParameterError(
            f"{where} must be a name without dots, since DVC cannot reproduce it otherwise. Got {name!r} instead."
        )


def check_run_id(where: str, value: object, *, taken: Collection[str] = ()) -> None:
    """Refuses what is no name, nor a run of a reproduction (``repro/eq1-0``) or of a study (``study/final/eq1-0``).

    Raises:
        ParameterError: If it is not text, or no such name.
    """
    name = _text(where, value)
    grouped = _GROUPED.fullmatch(name)
    if grouped is None and "/" in name:
        raise ParameterError(
            f"{where} must be a name, not a path, or repro/NAME or study/STUDY/NAME. Got {name!r} instead."
        )
    for part in name.split("/"):
        check_name(where, part, taken=() if grouped else taken)


def _text(where: str, value: object) -> str:
    if isinstance(value, str):
        return value
    raise ParameterError(
        f"{where} must be text. It was read as {value!r}, which is none; put what is meant in quotes, as in '007'."
    )
