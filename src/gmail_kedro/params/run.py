"""What all pipelines of one run share."""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class RunParams(Parameters):
    """What all pipelines of one run share.

    Attributes:
        seed: Seeds every random choice of the run.
        device: ``auto``, ``cpu`` or a CUDA device.
        precision: ``auto``, ``float32`` or ``bfloat16``, for training and encoding.
        encoder: Name of the image-text encoder.
        encoder_path: Local folder of its weights, or null for the packaged or published weights.
        image_batch_size: Pictures encoded at once.
        engine: ``local`` (this process) or ``ray`` (the workers of a Ray cluster), for generation and the teacher's
            features.
    """

    seed: int
    device: str
    precision: str
    encoder: str
    encoder_path: str | None
    image_batch_size: int
    engine: str

    GROUP: ClassVar[str] = "run"
    RULES: ClassVar[dict[str, Any]] = rules(positive="image_batch_size", not_negative="seed", not_empty="encoder") | {
        "precision": ("auto", "float32", "bfloat16"),
        "engine": ("local", "ray"),
    }

    def __post_init__(self) -> None:
        """Refuses wrong values, and an engine that is not installed.

        Raises:
            ParameterError: At the first of them.
        """
        super().__post_init__()
        self.refuse_unless(
            self.engine != "ray" or find_spec("ray") is not None,
            "engine",
            "local, or ray after: pip install 'gmail_kedro[distributed]'",
        )
