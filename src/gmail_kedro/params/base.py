"""What parameter groups share: strict pydantic models, and the groups ``training`` and ``lora`` of every trainer.

Kedro builds a group from ``conf/`` for every node that annotates an input with its class. pydantic alone would read
``true`` as 1 and ``"3"`` as 3, ignore unknown keys and take nan; a configuration must not. Refusals name parameter,
finding and remedy.
"""

from difflib import get_close_matches
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
)
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

Fraction = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
JpegQuality = Annotated[int, Field(ge=1, le=95)]
Text = Annotated[str, Field(min_length=1)]
Texts = Annotated[list[str], Field(min_length=1)]
Schedule = Literal["constant", "linear", "cosine"]  # after the warm-up; the last two end at zero

STRICT = ConfigDict(strict=True, allow_inf_nan=False)


class ParameterError(ValueError):
    """A parameter that cannot be used; the message names it, what was expected, what came and the file."""


class NestedParams(BaseModel):
    """A group inside a group, such as ``alignment.training``."""

    model_config = STRICT | ConfigDict(frozen=True, extra="forbid")

    @classmethod
    @cache
    def leaves(cls) -> dict[str, FieldInfo]:
        """Returns the settings by their names with dots: ``steps``, ``training.batch_size``."""
        found: dict[str, FieldInfo] = {}
        for name, field in cls.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, NestedParams):
                found |= {f"{name}.{leaf}": info for leaf, info in inner.leaves().items()}
            else:
                found[name] = field
        return found


class Parameters(NestedParams):
    """A group at the top, such as ``alignment``.

    Attributes:
        GROUP: Its key in ``conf/``.
    """

    GROUP: ClassVar[str] = ""

    def __init__(self, **values: Any) -> None:
        """Builds the group.

        Raises:
            ParameterError: At the first value that is missing, unknown or wrong.
        """
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refusal(self.GROUP, error, self.leaves()) from None

    @classmethod
    def model_validate(cls, obj: Any, **_: Any) -> Self:
        """Builds the group as Kedro does, which calls this; pydantic's own would wrap our sentence in its report."""
        if not isinstance(obj, dict):
            raise ParameterError(f"{cls.GROUP} must be a mapping. Got {obj!r} instead.")
        return cls(**obj)

    @classmethod
    def check_value(cls, name: str, value: Any) -> None:
        """Refuses a value that the setting ``name``, such as ``training.steps``, cannot have.

        Raises:
            ParameterError: If it cannot.
        """
        try:
            _adapter(cls, name).validate_python(value)
        except ValidationError as error:
            raise _refusal(f"{cls.GROUP}.{name}", error, ()) from None

    def flat(self) -> dict[str, Any]:
        """Returns the values by their whole names: ``{"alignment.training.steps": 60, …}``."""
        return {f"{self.GROUP}.{name}": attrgetter(name)(self) for name in self.leaves()}

    def replace(self, **changes: Any) -> Self:
        """Returns a copy with other values, checked as these were.

        Args:
            **changes: By name; ``**{"training.steps": 3}`` for what lies deeper.
        """
        values = self.model_dump()
        for name, value in changes.items():
            *groups, last = name.split(".")
            place = values
            for group in groups:
                place = place[group]
            place[last] = value
        return type(self)(**values)

    def __str__(self) -> str:
        """Returns the group's name alone: MLflow's plug-in records this text, and each value has a row of its own."""
        return self.GROUP

    def refuse_unless(self, holds: bool, name: str, expected: str) -> None:
        """Refuses a value that does not go with another one.

        Args:
            holds: Whether the two go together.
            name: The setting to blame.
            expected: What it must be, such as ``"lora_proj only with topology: shared"``.

        Raises:
            ParameterError: If they do not.
        """
        if not holds:
            raise ParameterError(_sentence(f"{self.GROUP}.{name}", expected, attrgetter(name)(self)))


class TrainingParams(NestedParams):
    """What every trainer has; AdamW throughout."""

    steps: NonNegativeInt  # 0 leaves the model as it is, where a trainer allows it
    batch_size: PositiveInt
    learning_rate: PositiveFloat
    weight_decay: NonNegativeFloat
    schedule: Schedule
    warmup_steps: NonNegativeInt = 0  # linear
    restarts: PositiveInt = 1  # equally long cosine cycles: SGDR's T_0 is steps / restarts, T_mult 1
    clip_norm: PositiveFloat
    checkpoint_every: PositiveInt  # steps


class LoraParams(NestedParams):
    """The adapter: ``alpha / rank`` scales its update."""

    rank: PositiveInt
    alpha: PositiveFloat
    dropout: BelowOne  # before the adapter
    targets: Texts | None  # modules as PEFT names them; null: the model family's own


def unknown_name(where: str, name: Any, known: Any, *, also: Any = ()) -> ParameterError:
    """Returns the refusal of a name that is not known; says which ones are close, among the known ones and others."""
    candidates = sorted({*known, *also})
    group, _, last = str(name).rpartition(".")
    deeper = [key for key in candidates if key.startswith(group) and key.endswith(f".{last}")]
    close = deeper or get_close_matches(str(name), candidates, n=1)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"There are: {', '.join(sorted(known))}."
    return ParameterError(f"{where}there is no {name!r}. {hint}")


@cache
def _adapter(kind: type[Parameters], name: str) -> TypeAdapter[Any]:
    field = kind.leaves()[name]
    constrained: Any = Annotated[field.annotation, field]
    return TypeAdapter(constrained, config=STRICT)


def _refusal(where: str, error: ValidationError, known: Any) -> ParameterError:
    """Returns the first finding of pydantic's report as one sentence of ours."""
    first = error.errors(include_url=False)[0]
    ours = first.get("ctx", {}).get("error")
    if isinstance(ours, ParameterError):  # of ``refuse_unless``
        return ours
    names = [part for part in first["loc"] if isinstance(part, str)]  # without places in lists
    if first["type"] == "extra_forbidden":
        return unknown_name("", f"{where}.{'.'.join(names)}", [f"{where}.{name}" for name in known])
    return ParameterError(_sentence(".".join([where, *names]), _expectation(first), first["input"]))


def _expectation(found: ErrorDetails) -> str:
    if found["type"] == "missing":
        return "given"
    if found["type"] in ("too_short", "string_too_short"):
        return "not empty"
    return found["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


def _sentence(where: str, expected: str, value: Any) -> str:
    return (
        f"The parameter {where} must be {expected}. Got {value!r} instead. "
        f"Set it in conf/*/parameters*.yml or with --params={where}=…"
    )
