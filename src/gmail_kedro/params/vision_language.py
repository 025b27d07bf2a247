"""How a LLaVA is trained on generated images, and how it writes."""

from typing import ClassVar, Literal, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from gmail_kedro.params.base import Fraction, LoraParams, Parameters, Text, Texts, TrainingParams


class VisionLanguageTraining(TrainingParams):
    """0 steps measure the model as it is published."""

    micro_batch_size: PositiveInt  # conversations in memory at once; the gradient is the same
    projector_learning_rate: PositiveFloat  # learning_rate is the adapters'
    checkpoint_activations: bool  # recompute them in the backward pass, to save memory


class VisionLanguageLora(LoraParams):
    """Adapters in the language model."""

    rank: NonNegativeInt  # 0 trains the projector alone
    targets: Texts


class VisionLanguageParams(Parameters):
    """How a vision-language model is trained (projector and LoRA, tower frozen) and asked."""

    GROUP: ClassVar[str] = "vision_language"

    model: Text  # a name of models/vision_language/known_vision_language_models.py
    model_path: str | None  # local folder of its weights (of the language model, where the two are joined)
    dtype: Literal["float32", "bfloat16", "float16"]  # of the frozen weights; what is trained is float32
    chat_format: Literal["auto", "vicuna_v1.5", "llama_3"]  # auto: the model's own chat template
    feature_layer: int  # hidden state of the vision tower that is read
    feature_select: Literal["default", "full"]  # default leaves the class token out
    # Images through the student, real ones through the real path, or both.
    train_on: Literal["generated", "real", "mixed"]
    real_fraction: Fraction  # of the rows in mixed
    caption_prompt: Text  # what a caption is asked for with
    questions_per_image: NonNegativeInt  # about the caption, by the mini world's grammar; 0 for real photographs
    lora: VisionLanguageLora
    train_projector: bool
    training: VisionLanguageTraining
    cache_gib: NonNegativeFloat  # memory for the tower's tokens; what does not fit is computed every time
    max_tokens: PositiveInt  # of a caption or answer
    answer_batch_size: PositiveInt

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        self.refuse_unless(self.lora.rank > 0 or self.train_projector, "train_projector", "true with lora.rank: 0")
        return self
