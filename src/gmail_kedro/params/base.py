"""What all parameter groups share: field types and rules, checked before the first node runs."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Any, ClassVar, get_args, get_origin, get_type_hints


class ParameterError(ValueError):
    """A parameter that cannot be used; the message names it, what was expected, what came and the file."""


@dataclass(frozen=True)
class Parameters:
    """Checks shared by all groups: field types, and the rules each group lists in ``RULES``.

    Attributes:
        GROUP: The key of the group in ``conf/``.
        RULES: For each field, a rule by name (see ``_RULES``) or the tuple of allowed values.
    """

    GROUP: ClassVar[str] = ""
    RULES: ClassVar[dict[str, Any]] = {}

    def __post_init__(self) -> None:
        """Refuses a value of the wrong type or against its rule.

        Raises:
            ParameterError: At the first such value.
        """
        for field in fields(self):
            self.check_value(field.name, getattr(self, field.name))

    @classmethod
    def check_value(cls, name: str, value: Any) -> None:
        """Refuses a value of the wrong type or against its rule.

        Args:
            name: The field.
            value: What is to be its value.

        Raises:
            ParameterError: If it cannot be.
        """
        where = f"{cls.GROUP}.{name}"
        _check_type(where, value, cls.types()[name])
        if name in cls.RULES and value is not None:
            _check_rule(where, value, cls.RULES[name])

    @classmethod
    @cache
    def types(cls) -> dict[str, Any]:
        """Returns the declared type of each field."""
        hints = get_type_hints(cls)
        return {field.name: hints[field.name] for field in fields(cls)}

    def __str__(self) -> str:
        """Returns the group's name alone: MLflow's plug-in records this text, and each value has a row of its own."""
        return self.GROUP

    def refuse_unless(self, holds: bool, name: str, expected: str) -> None:
        """Refuses a value that does not go with another one.

        Args:
            holds: Whether the two go together.
            name: The field to blame.
            expected: What it must be, such as ``"lora_proj only with topology: shared"``.

        Raises:
            ParameterError: If they do not.
        """
        if not holds:
            raise ParameterError(_sentence(f"{self.GROUP}.{name}", expected, getattr(self, name)))


def is_text(annotation: Any) -> bool:
    """Says whether a declared type is text, perhaps text or null."""
    return annotation is str or str in get_args(annotation) and isinstance(annotation, UnionType)


_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "positive": (lambda value: value > 0, "greater than 0"),
    "not_negative": (lambda value: value >= 0, "0 or greater"),
    "fraction": (lambda value: 0 <= value <= 1, "between 0 and 1"),
    "below_one": (lambda value: 0 <= value < 1, "at least 0 and less than 1"),
    "not_empty": (lambda value: len(value) > 0, "not empty"),
    "jpeg_quality": (lambda value: 1 <= value <= 95, "between 1 and 95"),
}


def rules(**names: str) -> dict[str, Any]:
    """Returns rules by field from the field names of each rule: ``rules(positive="steps batch_size")``."""
    return {name: rule for rule, words in names.items() for name in words.split()}


_KINDS = {float: "a number", int: "an integer", str: "a string", bool: "true or false", list: "a list"}


def _check_type(where: str, value: Any, annotation: Any) -> None:
    kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    if value is None and NoneType in kinds:
        return
    kind = get_origin(kinds[0]) or kinds[0]
    if not _is_a(value, kind):
        raise ParameterError(_sentence(where, _KINDS[kind], value))
    if kind is float and not math.isfinite(value):
        raise ParameterError(_sentence(where, "a finite number", value))
    for item in value if kind is list else ():
        _check_type(where, item, get_args(kinds[0])[0])


def _is_a(value: Any, kind: type) -> bool:
    if isinstance(value, bool) or kind is bool:  # Python counts True as the integer 1; a configuration must not
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (float, int) if kind is float else kind)


def _check_rule(where: str, value: Any, rule: str | tuple[Any, ...]) -> None:
    if isinstance(rule, tuple):
        holds, words = value in rule, f"one of {list(rule)}"
    else:
        holds, words = _RULES[rule][0](value), _RULES[rule][1]
    if not holds:
        raise ParameterError(_sentence(where, words, value))


def _sentence(where: str, expected: str, value: Any) -> str:
    return (
        f"The parameter {where} must be {expected}. Got {value!r} instead. "
        f"Set it in conf/*/parameters*.yml or with --params={where}=…"
    )
