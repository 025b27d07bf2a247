"""How an image tower is fine-tuned on a classification set."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class FineTuningParams(Parameters):
    """SynCLR's fine-tuning of a vision-only tower, all weights, on the run's real route.

    Attributes:
        sets: Names of the sets that are fine-tuned on, of those that are measured; the others are left to linear
            probes. SynCLR fine-tunes on ImageNet alone.
        epochs: How often each training picture is seen.
        base_learning_rate: AdamW's, for 256 pictures a step; a batch of another size scales it.
        min_learning_rate: Where its cosine ends.
        layer_decay: Each block learns slower than the next by this factor.
        warmup_epochs: Linear warm-up, in epochs.
        weight_decay: AdamW's; biases, norms, class token and positions have none.
        drop_path: Largest share of pictures that skip a block; it grows with depth.
        auto_augment: timm's name of the augmentation policy, or null for none; policies change colours.
        flip: Share of pictures that are mirrored; 0 where left and right matter.
        random_erasing: Share of pictures of which a rectangle is erased.
        mixup: Alpha of mixup; 0 for none.
        cutmix: Alpha of CutMix; 0 for none.
        label_smoothing: Share of the target that is spread over all classes.
        ema_decay: Of the moving average of the weights, which is what is measured.
        crop_share: Share of the resized picture's side that is looked at when measured.
        batch_size: Pictures a step.
        micro_batch_size: Pictures at once; mixup and CutMix join pictures of one part. An even number.
        loader_workers: Processes that decode and augment; 0: none beside the run's own.
        checkpoint_every: Steps between two checkpoints.
    """

    sets: list[str]
    epochs: int
    base_learning_rate: float
    min_learning_rate: float
    layer_decay: float
    warmup_epochs: int
    weight_decay: float
    drop_path: float
    auto_augment: str | None
    flip: float
    random_erasing: float
    mixup: float
    cutmix: float
    label_smoothing: float
    ema_decay: float
    crop_share: float
    batch_size: int
    micro_batch_size: int
    loader_workers: int
    checkpoint_every: int

    GROUP: ClassVar[str] = "fine_tuning"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="epochs base_learning_rate batch_size micro_batch_size checkpoint_every",
        not_negative="min_learning_rate warmup_epochs weight_decay mixup cutmix loader_workers",
        fraction="flip random_erasing layer_decay crop_share",
        below_one="drop_path label_smoothing ema_decay",
        not_empty="auto_augment",
    )

    def __post_init__(self) -> None:
        """Refuses values that contradict one another.

        Raises:
            ParameterError: At the first such value.
        """
        super().__post_init__()
        self.refuse_unless(self.warmup_epochs < self.epochs, "warmup_epochs", "less than epochs")
        self.refuse_unless(
            self.min_learning_rate <= self.base_learning_rate, "min_learning_rate", "base_learning_rate or less"
        )
        for name in ("batch_size", "micro_batch_size"):  # mixup joins pictures in pairs
            self.refuse_unless(getattr(self, name) % 2 == 0, name, "an even number")
