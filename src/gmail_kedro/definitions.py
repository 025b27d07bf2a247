"""Runs, sets, seeds and tables as a profile defines them: the files of conf/base, with what the profile changes."""

from collections.abc import Mapping
from typing import Any

FILES = ("experiments", "seeds", "sets", "study", "tables")  # of conf/*/; ``settings`` tells Kedro of them


def read_definitions(configuration: Mapping[str, Any], file: str) -> dict[str, Any]:
    """Returns what a file defines in a profile. What the profile sets to null, it does not have.

    Args:
        configuration: The files by name, merged, as Kedro's configuration loader gives them.
        file: One of ``FILES``.

    Example:
        >>> read_definitions({"sets": {"sets": {"mini_sd": None, "coco": {"params": "corpus=coco"}}}}, "sets")
        {'sets': {'coco': {'params': 'corpus=coco'}}}
    """
    return {section: _without_nulls(content) for section, content in configuration[file].items()}


def _without_nulls(content: Any) -> Any:
    return {key: value for key, value in content.items() if value is not None} if isinstance(content, dict) else content
