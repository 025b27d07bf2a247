"""How the student is tuned towards the teacher: every reading of Section 3.2 of the paper as a declared value.

The defaults are the paper: Eq. 1 as printed, Algorithm 1 and Appendix A. ``[paper]`` marks a value that is printed
there; the others are our reading of what it leaves open. ``conf/base`` sets the mini world's values and our preset.
"""

from typing import ClassVar, Literal, Self

from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from gmail_kedro.params.base import BelowOne, LoraParams, Parameters, Schedule, Texts, TrainingParams

# Maps fitted to finished features, without training (method/realign.py).
TrainingFree = Literal["none", "realign", "c3", "mean_shift"]


class AlignmentTraining(TrainingParams):
    """The paper's Appendix A."""

    steps: PositiveInt = 50_000  # [paper] Appendix A; table 12 has 60,000 "to convergence"
    batch_size: PositiveInt = 256  # [paper] pairs a step
    micro_batch_size: PositiveInt | None = None  # pairs in memory at once; null: all. The gradient is the same
    learning_rate: PositiveFloat = 1e-4  # [paper]
    weight_decay: NonNegativeFloat = 0.01  # [paper]
    schedule: Schedule = "cosine"  # [paper] with warm restarts
    restarts: PositiveInt = 5  # T_0 = 10,000 steps
    clip_norm: PositiveFloat = 1.0  # the paper says "gradient clipping"
    checkpoint_every: PositiveInt = 1000
    validate_every: PositiveInt | None = None  # steps between two losses on the validation pairs; null: none
    patience: PositiveInt | None = None  # evaluations without a better loss until training stops; keeps the best
    checkpoint_activations: bool = False  # recompute them in the backward pass, to save memory


class AlignmentLora(LoraParams):
    """The student's adapter."""

    rank: PositiveInt = 4  # [paper]
    alpha: PositiveFloat = 8.0
    dropout: BelowOne = 0.0
    targets: Texts | None = None
    blocks: PositiveInt | None = None  # so many last transformer blocks get one; null: all


class AlignmentParams(Parameters):
    """What is minimised (a weighted sum), what is tuned, which path serves real images, and how long."""

    GROUP: ClassVar[str] = "alignment"

    # Eq. 1: generated images against the real images of their captions
    align_weight: NonNegativeFloat = 1.0
    align_form: Literal["softmax", "sigmoid", "cosine"] = "softmax"  # Eq. 1, SigLIP's pairwise form, 1 - cos of pairs
    direction: Literal["generated_to_real", "symmetric"] = "generated_to_real"
    temperature: PositiveFloat = 0.07  # [paper] tau
    learn_temperature: bool = False
    stop_gradient_real: bool = True  # real embeddings are constants in Eq. 1; without a real head they always are
    # Negatives that show the positive's own real image: left out, never drawn, or kept.
    same_image: Literal["mask", "unique_per_batch", "keep"] = "mask"
    # Real candidates beside the batch's own: none, the last queue_size seen, or all.
    negatives: Literal["batch", "queue", "cache"] = "batch"
    queue_size: PositiveInt = 1024  # real images
    level: Literal["pooled", "patch_mean", "both"] = "pooled"  # the features that Eq. 1 sees

    # Contrast with captions, in the form and at the temperature that the encoder was pre-trained with
    generated_text_weight: NonNegativeFloat = 0.0
    real_text_weight: NonNegativeFloat = 0.0

    # Ours: moment matching, and 1 - cos(student, teacher) on real images
    moment_weight: NonNegativeFloat = 0.0
    moment_form: Literal["mean", "covariance", "mean_covariance", "trace", "whitened_mean", "mmd"] = "whitened_mean"
    moment_ridge: PositiveFloat = 0.1  # added to the variances before they are inverted, as a fraction of their mean
    moment_reference: Literal["cache", "queue"] = "cache"  # moments of all real embeddings, or of the queue's
    preservation_weight: NonNegativeFloat = 0.0

    training_free: TrainingFree = "none"  # fitted after tuning, to what the two modality paths give

    # Which encoder serves which modality
    topology: Literal["two_tower", "shared"] = "two_tower"  # teacher and student (Algorithm 1), or one tuned encoder
    # Real images at test time: the teacher; its tower and the real head; the tuned tower and the real head, if any.
    real_path: Literal["frozen", "proj", "lora_proj"] = "frozen"
    projection: Literal["none", "linear", "residual", "mlp"] = "none"  # heads; none: CLIP's own projection
    projection_batch_norm: bool = False  # at the heads' end

    # What is tuned
    tune: Literal["lora", "dora", "full", "none"] = "lora"  # none: the student is the teacher
    tune_text: bool = False  # the text tower in the same way; needs a text term
    lora: AlignmentLora = AlignmentLora()
    training: AlignmentTraining = AlignmentTraining()
    photograph_count: PositiveInt | None = None  # align on the pairs of so many real images; consumers see all pairs
    patch_dropout: BelowOne = 0.0  # share of patches that the student does not see in training
    cache_prefix: bool = False  # compute the frozen blocks below the first adapter once, and keep their output
    compile: bool = False  # torch.compile for the student; needs a C++ compiler, and Triton on a GPU

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        self._check_paths()
        self._check_terms()
        self._check_training()
        return self

    def _check_paths(self) -> None:
        has_heads, is_shared = self.projection != "none", self.topology == "shared"
        self.refuse_unless(self.real_path != "proj" or has_heads, "real_path", "proj only where there is a projection")
        self.refuse_unless(
            self.real_path != "lora_proj" or is_shared, "real_path", "lora_proj only with topology: shared"
        )
        self.refuse_unless(
            not self.projection_batch_norm or has_heads, "projection_batch_norm", "false without a projection"
        )
        self.refuse_unless(
            self.tune != "none" or not (has_heads or self.tune_text), "tune", "lora, dora or full, to train anything"
        )
        self.refuse_unless(
            not is_shared or self.negatives == "batch", "negatives", "batch with topology: shared, whose reals move"
        )

    def _check_terms(self) -> None:
        texts = self.generated_text_weight + self.real_text_weight
        trains_real = self.topology == "shared" or self.real_path == "proj"
        self.refuse_unless(self.tune == "none" or self.total_weight > 0, "align_weight", "above 0, or another weight")
        self.refuse_unless(
            not self.real_text_weight or trains_real,
            "real_text_weight",
            "0 unless topology is shared or real_path is proj: nothing on the real side could learn",
        )
        self.refuse_unless(not self.tune_text or texts > 0, "tune_text", "false without a text term")
        self.refuse_unless(
            self.moment_reference == "cache" or self.negatives == "queue", "moment_reference", "cache without a queue"
        )
        self.refuse_unless(
            not self.moment_weight or self.real_path == "frozen", "moment_weight", "0 unless real_path is frozen"
        )

    def _check_training(self) -> None:
        has_negatives = not self.align_weight or self.align_form != "softmax" or self.negatives != "batch"
        self.refuse_unless(
            self.training.batch_size > 1 or self.tune == "none" or (not self.moment_weight and has_negatives),
            "training.batch_size",
            "2 or greater: one pair has neither negatives nor moments",
        )
        self.refuse_unless(
            self.training.micro_batch_size is None or not self.projection_batch_norm,
            "training.micro_batch_size",
            "null with projection_batch_norm, whose statistics are the batch's",
        )
        self.refuse_unless(
            self.training.patience is None or self.training.validate_every is not None,
            "training.patience",
            "null without validate_every",
        )
        self.refuse_unless(
            not self.cache_prefix or (self.topology == "two_tower" and self.tune == "lora" and not self.patch_dropout),
            "cache_prefix",
            "false unless topology is two_tower, tune is lora and patch_dropout is 0",
        )

    @property
    def total_weight(self) -> float:
        """Sum of all weights; 0 means that nothing is minimised."""
        return (
            self.align_weight
            + self.generated_text_weight
            + self.real_text_weight
            + self.moment_weight
            + self.preservation_weight
        )
