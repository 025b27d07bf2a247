"""The YAML files of a profile, read before Kedro does: plain data of a bounded size, or a refusal with the file."""

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gmail_kedro.params.base import ParameterError

REFERENCE = re.compile(r"\$\{\s*(?P<resolver>[\w.]+)\s*:\s*(?P<name>[\w.]+)")
RESOLVERS = ("globals", "runtime_params")
LARGEST = 100_000  # values in one file, aliases counted as often as they are used; ours have some thousand
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_file(path: Path, shown: str) -> Any:
    """Returns what a YAML file says, references as they are written.

    Args:
        path: The file.
        shown: What messages call it.

    Raises:
        ParameterError: If it is no YAML, asks for an object, grows without bound, or refers to what is no setting.
    """
    status = path.stat()
    return _read(path, shown, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)  # a command opens the configuration of many runs; parsing takes most of the time of each
def _read(path: Path, shown: str, _changed: int, _size: int) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_LOADER)
        if node is not None:
            _count_values(node, shown, {})
        # OmegaConf reads safely: tags of objects, sets and times are errors, and so are keys that stand twice.
        content = OmegaConf.to_container(OmegaConf.create(text or "{}"), resolve=False)
    except (yaml.YAMLError, UnicodeDecodeError, OmegaConfBaseException) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f", line {mark.line + 1}"
        what = getattr(error, "problem", error)
        raise ParameterError(f"{shown}{place}: this is no plain YAML ({what}). Correct the file.") from error
    for key, value in leaves(content):
        for match in REFERENCE.finditer(value) if isinstance(value, str) else ():
            if match["resolver"] not in RESOLVERS:
                raise ParameterError(
                    f"{shown}: {key} must not refer to {match['resolver']!r}; files may refer to {list(RESOLVERS)}, "
                    f"and to settings of their own. Got {value!r} instead."
                )
    return content


def leaves(content: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every value that holds no others, with its keys joined by dots."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else None
    if items is None:
        yield key, content
        return
    for name, value in items:
        yield from leaves(value, f"{key}.{name}" if key else str(name))


def _count_values(node: yaml.Node, shown: str, counts: dict[int, int]) -> int:
    """Returns how many values a node stands for; refuses anchors that repeat one another until memory is full."""
    if id(node) not in counts:
        counts[id(node)] = LARGEST + 1  # until it is known: an anchor that holds itself is refused too
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        children = parts if isinstance(node, yaml.CollectionNode) else ()
        counts[id(node)] = 1 + sum(_count_values(child, shown, counts) for child in children)
    if counts[id(node)] > LARGEST:
        raise ParameterError(
            f"{shown}, line {node.start_mark.line + 1}: its anchors repeat one another, or themselves, to more than "
            f"{LARGEST:,} values. Write fewer."
        )
    return counts[id(node)]
