"""How a model is trained and what LoRA adds: the groups ``training`` and ``lora`` of every trainer."""

from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from gmail_kedro.params.base import BelowOne, NestedParams, Texts

Schedule = Literal["constant", "linear", "cosine"]  # after the warm-up; the last two end at zero


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
