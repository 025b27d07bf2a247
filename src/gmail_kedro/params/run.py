"""What all pipelines of one run share."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class RunParams(Parameters):
    """What all pipelines of one run share.

    Attributes:
        seed: Seeds every random choice of the run.
        device: ``auto``, ``cpu`` or a CUDA device.
        precision: ``auto``, ``float32`` or ``bfloat16``, for training and encoding.
        encoder: Name of the image-text encoder in the zoo.
        encoder_path: Local folder of its weights, or null for the zoo's own source.
        image_batch_size: Pictures encoded at once.
    """

    seed: int
    device: str
    precision: str
    encoder: str
    encoder_path: str | None
    image_batch_size: int

    GROUP: ClassVar[str] = "run"
    RULES: ClassVar[dict[str, Any]] = rules(positive="image_batch_size", not_negative="seed", not_empty="encoder") | {
        "precision": ("auto", "float32", "bfloat16")
    }
