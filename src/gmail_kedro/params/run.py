"""What all pipelines of one run share."""

from importlib.util import find_spec
from typing import ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from gmail_kedro.params.base import Parameters, Text


class RunParams(Parameters):
    """What all pipelines of one run share."""

    GROUP: ClassVar[str] = "run"

    seed: NonNegativeInt  # of every random choice of the run
    device: str  # auto, cpu, or a CUDA device such as cuda:0
    precision: Literal["auto", "float32", "bfloat16"]  # auto: bfloat16 where the hardware multiplies in it
    encoder: Text  # a name of models/encoders/known_encoders.py
    encoder_path: str | None  # folder or file of weights of this very encoder; null: the packaged or published ones
    image_batch_size: PositiveInt  # images encoded at once
    engine: Literal["local", "ray"]  # this process, or a Ray cluster's, for generation and the teacher's features

    @model_validator(mode="after")
    def _is_installed(self) -> Self:
        self.refuse_unless(
            self.engine != "ray" or find_spec("ray") is not None,
            "engine",
            "local, or ray after: pip install 'gmail_kedro[distributed]'",
        )
        return self
