"""How the student is tuned towards the teacher: every reading of Section 3.2 of the paper as a declared value."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules

TRAINING_FREE = ("none", "realign", "c3", "mean_shift")
_CHOICES = {
    "align_form": ("softmax", "sigmoid", "cosine"),
    "direction": ("generated_to_real", "symmetric"),
    "same_image": ("mask", "unique_per_batch", "keep"),
    "negatives": ("batch", "queue", "cache"),
    "level": ("pooled", "patch_mean", "both"),
    "text_form": ("model", "softmax", "sigmoid"),
    "moment_form": ("mean", "covariance", "mean_covariance", "trace", "whitened_mean", "mmd"),
    "moment_reference": ("cache", "queue"),
    "training_free": TRAINING_FREE,
    "topology": ("two_tower", "shared"),
    "real_path": ("frozen", "proj", "lora_proj"),
    "projection": ("none", "linear", "residual", "mlp"),
    "tune": ("lora", "dora", "full", "none"),
    "schedule": ("constant", "linear", "cosine"),
}


@dataclass(frozen=True)
class AlignmentParams(Parameters):
    """What is minimised, what is tuned, which path serves real images, and how long.

    Attributes:
        align_weight: Weight of Eq. 1, generated images against the real images of their captions.
        align_form: ``softmax`` (Eq. 1), ``sigmoid`` (SigLIP's pairwise form) or ``cosine`` (1 - cos of pairs).
        direction: ``generated_to_real`` (Eq. 1) or ``symmetric``.
        temperature: The paper's tau, 0.07.
        learn_temperature: Whether tau is trained too.
        sigmoid_bias: Start of the bias in the sigmoid form.
        stop_gradient_real: Whether real embeddings are constants in Eq. 1; they always are without a real head.
        same_image: What happens to negatives that show the positive's own photograph: ``mask`` leaves them out,
            ``unique_per_batch`` never draws them, ``keep`` keeps them.
        negatives: Real candidates beside the batch's own: none (``batch``), the last ``queue_size`` seen
            (``queue``), or all (``cache``).
        queue_size: Photographs in the queue.
        level: Which features Eq. 1 sees: ``pooled``, ``patch_mean`` or ``both``.
        generated_text_weight: Weight of the contrast of generated images with their captions.
        real_text_weight: Weight of the contrast of real images with their captions.
        text_form: ``model`` (as the encoder was pre-trained), ``softmax`` or ``sigmoid``.
        text_temperature: Temperature of the two text terms, or null for the encoder's own.
        moment_weight: Weight of moment matching (ours).
        moment_form: ``mean``, ``covariance``, ``mean_covariance``, ``trace``, ``whitened_mean`` or ``mmd``.
        moment_ridge: In ``whitened_mean``, what is added to the variances before they are inverted, as a fraction
            of their mean.
        moment_reference: Real embeddings the moments are those of: ``cache`` (all) or ``queue``.
        preservation_weight: Weight of 1 - cos(student, teacher) on real images (ours).
        training_free: Map fitted to the tuned features, without training: ``none``, ``realign``, ``c3`` or
            ``mean_shift``.
        topology: ``two_tower`` (frozen teacher and tuned student, Algorithm 1) or ``shared`` (one tuned encoder
            for both modalities).
        real_path: What real images go through at test time: ``frozen`` (the teacher), ``proj`` (the teacher's
            tower and the real head) or ``lora_proj`` (the tuned tower and, where there is one, the real head).
        projection: Heads for generated and for real: ``none`` (CLIP's own projection), ``linear``, ``residual``
            or ``mlp``.
        projection_batch_norm: Whether the heads end in batch normalisation.
        tune: ``lora``, ``dora``, ``full`` or ``none`` (the student is the teacher; nothing is trained).
        tune_text: Whether the text tower is tuned in the same way; needs a text term.
        lora_rank: Rank of the adapter.
        lora_alpha: Scale numerator of the adapter.
        lora_dropout: Dropout before the adapter.
        lora_targets: Modules that get an adapter, as PEFT names them, or null for the encoder family's own.
        lora_blocks: Number of last transformer blocks that get one, or null for all.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        schedule: ``constant``, ``linear`` or ``cosine``.
        warmup_steps: Linear warm-up, in steps.
        restarts: Equally long cosine cycles (warm restarts).
        steps: Optimizer steps.
        batch_size: Pairs a step.
        micro_batch_size: Pairs that are in memory at once, or null for the whole batch; the gradient is the same.
        clip_norm: Largest gradient norm.
        checkpoint_every: Steps between two checkpoints.
        validate_every: Steps between two looks at the validation pairs, or null for none.
        patience: Looks without a better loss before training stops and the best weights are kept, or null.
        photograph_count: Largest number of training photographs whose pairs are aligned, or null for all; whatever
            is trained on the features sees all pairs.
        patch_dropout: Share of patches the student does not see in training.
        checkpoint_activations: Whether activations are recomputed in the backward pass, to save memory.
        cache_prefix: Whether the output of the frozen blocks below the first adapter is computed once and kept.
        compile: Whether ``torch.compile`` makes kernels for the student; needs a C++ compiler, and Triton on a GPU.
    """

    align_weight: float
    align_form: str
    direction: str
    temperature: float
    learn_temperature: bool
    sigmoid_bias: float
    stop_gradient_real: bool
    same_image: str
    negatives: str
    queue_size: int
    level: str
    generated_text_weight: float
    real_text_weight: float
    text_form: str
    text_temperature: float | None
    moment_weight: float
    moment_form: str
    moment_ridge: float
    moment_reference: str
    preservation_weight: float
    training_free: str
    topology: str
    real_path: str
    projection: str
    projection_batch_norm: bool
    tune: str
    tune_text: bool
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    lora_targets: list[str] | None
    lora_blocks: int | None
    learning_rate: float
    weight_decay: float
    schedule: str
    warmup_steps: int
    restarts: int
    steps: int
    batch_size: int
    micro_batch_size: int | None
    clip_norm: float
    checkpoint_every: int
    validate_every: int | None
    patience: int | None
    photograph_count: int | None
    patch_dropout: float
    checkpoint_activations: bool
    cache_prefix: bool
    compile: bool

    GROUP: ClassVar[str] = "alignment"
    RULES: ClassVar[dict[str, Any]] = (
        rules(
            positive="temperature moment_ridge queue_size text_temperature lora_rank lora_alpha lora_blocks "
            "learning_rate restarts steps batch_size micro_batch_size clip_norm checkpoint_every validate_every "
            "patience photograph_count",
            not_negative="align_weight generated_text_weight real_text_weight moment_weight preservation_weight "
            "weight_decay warmup_steps",
            fraction="lora_dropout",
            below_one="patch_dropout",
            not_empty="lora_targets",
        )
        | _CHOICES
    )

    def __post_init__(self) -> None:
        """Refuses wrong values, and values that contradict one another.

        Raises:
            ParameterError: At the first of them.
        """
        super().__post_init__()
        self._check_paths()
        self._check_terms()
        self.refuse_unless(
            self.patience is None or self.validate_every is not None, "patience", "null without validate_every"
        )
        self.refuse_unless(
            not self.cache_prefix or (self.topology == "two_tower" and self.tune == "lora" and not self.patch_dropout),
            "cache_prefix",
            "false unless topology is two_tower, tune is lora and patch_dropout is 0",
        )

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
        has_negatives = not self.align_weight or self.align_form != "softmax" or self.negatives != "batch"
        self.refuse_unless(
            self.batch_size > 1 or self.tune == "none" or (not self.moment_weight and has_negatives),
            "batch_size",
            "2 or greater: one pair has neither negatives nor moments",
        )
        self.refuse_unless(
            self.micro_batch_size is None or not self.projection_batch_norm,
            "micro_batch_size",
            "null with projection_batch_norm, whose statistics are the batch's",
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
