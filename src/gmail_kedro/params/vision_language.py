"""How a LLaVA is trained on generated images, and how it writes."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class VisionLanguageParams(Parameters):
    """How a vision-language model is trained (projector and LoRA, tower frozen) and asked.

    Attributes:
        model: Name of the vision-language model.
        model_path: Local folder of its weights (of the language model, where the zoo puts the model together), or
            null for the published weights.
        dtype: Of the frozen weights; what is trained is float32.
        chat_format: ``auto`` (the model's own chat template), ``vicuna_v1.5`` or ``llama_3``.
        feature_layer: Hidden state of the tower that is read.
        feature_select: ``default`` leaves the class token out, ``full`` keeps it.
        train_on: ``generated`` (through the student), ``real`` (through the real route) or ``mixed`` (both).
        real_fraction: Share of real rows in ``mixed``.
        caption_prompt: What a caption is asked for with.
        questions_per_image: Questions that the mini world asks about a caption, beside the caption itself; 0 for
            corpora of photographs.
        lora_rank: Rank of the adapters in the language model; 0 trains the projector alone.
        lora_alpha: The adapters' update is scaled by ``lora_alpha / lora_rank``.
        lora_dropout: Dropout before the adapters.
        lora_targets: Linear modules of the language model that get adapters.
        train_projector: Whether the projector learns.
        learning_rate: AdamW's, for the adapters.
        projector_learning_rate: AdamW's, for the projector.
        weight_decay: AdamW's.
        warmup_steps: Linear warm-up, then cosine decay to zero.
        steps: Optimizer steps; 0 measures the model as it is published.
        batch_size: Conversations a step.
        micro_batch_size: Conversations at once; the gradient is the same.
        clip_norm: Largest gradient norm.
        checkpoint_every: Steps between two checkpoints.
        checkpoint_activations: Whether activations are computed again in the backward pass, to save memory.
        cache_gib: Memory for what the tower saw, in GiB; what does not fit is computed again every time.
        max_tokens: Longest caption or answer, in tokens.
        answer_batch_size: Prompts answered at once.
    """

    model: str
    model_path: str | None
    dtype: str
    chat_format: str
    feature_layer: int
    feature_select: str
    train_on: str
    real_fraction: float
    caption_prompt: str
    questions_per_image: int
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    lora_targets: list[str]
    train_projector: bool
    learning_rate: float
    projector_learning_rate: float
    weight_decay: float
    warmup_steps: int
    steps: int
    batch_size: int
    micro_batch_size: int
    clip_norm: float
    checkpoint_every: int
    checkpoint_activations: bool
    cache_gib: float
    max_tokens: int
    answer_batch_size: int

    GROUP: ClassVar[str] = "vision_language"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="lora_alpha learning_rate projector_learning_rate batch_size micro_batch_size clip_norm "
        "checkpoint_every max_tokens answer_batch_size",
        not_negative="questions_per_image lora_rank weight_decay warmup_steps steps cache_gib",
        fraction="real_fraction",
        below_one="lora_dropout",
        not_empty="model caption_prompt lora_targets",
    ) | {
        "dtype": ("float32", "bfloat16", "float16"),
        "chat_format": ("auto", "vicuna_v1.5", "llama_3"),
        "feature_select": ("default", "full"),
        "train_on": ("generated", "real", "mixed"),
    }

    def __post_init__(self) -> None:
        """Refuses wrong values, and a training in which nothing would be trained.

        Raises:
            ParameterError: At the first one.
        """
        super().__post_init__()
        self.refuse_unless(self.lora_rank > 0 or self.train_projector, "train_projector", "true with lora_rank: 0")
