"""How an image tower is fine-tuned on a classification set."""

from typing import ClassVar, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from gmail_kedro.params.base import BelowOne, Fraction, Parameters, Text


class FineTuningParams(Parameters):
    """SynCLR's fine-tuning of a vision-only tower, all weights, on the run's path for real images."""

    GROUP: ClassVar[str] = "fine_tuning"

    sets: list[str]  # of those that are measured; the others are left to linear probes. SynCLR's: ImageNet alone
    epochs: PositiveInt
    base_learning_rate: PositiveFloat  # for 256 images a step; a batch of another size scales it
    min_learning_rate: NonNegativeFloat  # where its cosine ends
    layer_decay: Fraction  # each block learns slower than the next by this factor
    warmup_epochs: NonNegativeInt  # linear
    weight_decay: NonNegativeFloat  # biases, norms, class token and positions have none
    drop_path: BelowOne  # largest share of images that skip a block; it grows with depth
    auto_augment: Text | None  # timm's name of a policy, such as rand-m9-mstd0.5-inc1; policies change colours
    flip: Fraction  # share of images that are mirrored; 0 where left and right matter
    random_erasing: Fraction  # share of images of which a rectangle is erased
    mixup: NonNegativeFloat  # alpha; 0: none
    cutmix: NonNegativeFloat  # alpha; 0: none
    label_smoothing: BelowOne
    ema_decay: BelowOne  # of the moving average of the weights, which is what is measured
    crop_share: Fraction  # of the resized image's side, when it is measured
    batch_size: PositiveInt
    micro_batch_size: PositiveInt  # images at once; mixup and CutMix join images of one part
    loader_workers: NonNegativeInt  # processes that decode and augment; 0: none beside the run's own
    checkpoint_every: PositiveInt  # steps

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        self.refuse_unless(self.warmup_epochs < self.epochs, "warmup_epochs", "less than epochs")
        self.refuse_unless(
            self.min_learning_rate <= self.base_learning_rate, "min_learning_rate", "base_learning_rate or less"
        )
        for name in ("batch_size", "micro_batch_size"):  # mixup joins images in pairs
            self.refuse_unless(getattr(self, name) % 2 == 0, name, "an even number")
        return self
