"""``--params``: what a command line or a set of sets.yml changes, read in one way by ``kedro`` and ``gmail-kedro``.

Kedro's own parser splits at every comma and guesses types, so that a run named 007 becomes 7 and a prompt with a comma
two settings. Here a value is read as the type that its setting is declared with in ``params``; text is what was
written, letter by letter. A comma begins another setting only where a ``name=`` follows it; quotes around a whole text
keep what would be read otherwise.
"""

import re
from collections.abc import Mapping
from typing import Any

from omegaconf import OmegaConf
from yaml import YAMLError

from gmail_kedro.configuration.parameter_groups import SETTINGS, is_text, may_be_null
from gmail_kedro.params.base import ParameterError

_QUOTED = r"""'(?:[^']|'')*'|"(?:[^"\\]|\\.)*\""""
_SETTING = re.compile(rf"\s*([\w.-]+)\s*=\s*({_QUOTED}|.*?)\s*(?:,(?=\s*[\w.-]+\s*=)|\Z)", re.DOTALL)


def parse_settings(text: str) -> dict[str, Any]:
    """Turns ``a.b=1,c=x`` into ``{"a.b": 1, "c": "x"}``.

    Raises:
        ParameterError: If it does not begin with a ``name=``, names a setting twice, or a value cannot be read.

    Example:
        >>> parse_settings("run_id=007,generation.negative_prompt=blurry, low quality,generation.steps=4")
        {'run_id': '007', 'generation.negative_prompt': 'blurry, low quality', 'generation.steps': 4}
    """
    found: dict[str, Any] = {}
    position = 0
    while position < len(text.rstrip()):
        match = _SETTING.match(text, position)
        if match is None:
            raise ParameterError(f"--params must be name=value, with commas between. Got {text[position:]!r} instead.")
        name, value = match.groups()
        if name in found:
            raise ParameterError(f"--params has {name} twice. Leave one of the two away.")
        found[name] = _read(name, value)
        position = match.end()
    return found


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Turns ``{"alignment.lora.rank": 2}`` into ``{"alignment": {"lora": {"rank": 2}}}``.

    Raises:
        ParameterError: If a name is a setting and a group at once; OmegaConf would drop one of the two.
    """
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
            if not isinstance(place, dict):
                raise ParameterError(f"{key} and {group} cannot both be set: one is a part of the other.")
        place[name] = value
    return nested


def _read(name: str, value: str) -> Any:
    if "${" in value:
        raise ParameterError(f"{name} must not contain ${{, which refers to other settings in files. Got {value!r}.")
    is_declared = name in SETTINGS  # names of runs and of corpora are not, and are text
    if is_declared and not is_text(name):
        return _as_yaml(name, value.rstrip(","))
    if re.fullmatch(_QUOTED, value, re.DOTALL):
        return _as_yaml(name, value)
    return None if is_declared and may_be_null(name) and value in ("null", "~", "") else value


def _as_yaml(name: str, value: str) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))["value"]  # type: ignore[index, call-overload]
    except YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise ParameterError(f"{name} cannot be read as YAML ({problem}). Got {value!r} instead.") from error
