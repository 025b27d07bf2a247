"""What the model is taught: conversations about pictures, each picture through its own route, and the step's loss."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.batches import FrozenActivations, batch_rows
from gmail_kedro.interfaces import CaptionGrammar
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX, Conversation, Turn
from gmail_kedro.models.vision_language.vision_language_model import VisionLanguageModel
from gmail_kedro.params.vision_language import VisionLanguageParams


@dataclass(frozen=True)
class Lessons:
    """Conversations with their pictures.

    Attributes:
        tokens: What the tower saw, a row a conversation; one part for each route.
        conversations: M of them, in the order of the parts.
    """

    tokens: tuple[FrozenActivations, ...]
    conversations: tuple[Conversation, ...]

    def __len__(self) -> int:
        return len(self.conversations)

    def patches(self, rows: np.ndarray) -> torch.Tensor:
        """Returns the tokens of the rows' pictures, float16 [B, P, W]."""
        starts = np.cumsum([0, *(len(part) for part in self.tokens)])
        parts = np.searchsorted(starts, rows, side="right") - 1
        found: dict[int, torch.Tensor] = {}
        for part in np.unique(parts):
            mine = np.flatnonzero(parts == part)
            seen = self.tokens[part][(rows[mine] - starts[part]).tolist()]
            found |= dict(zip(mine.tolist(), seen, strict=True))
        return torch.stack([found[place] for place in range(len(rows))])


def write_conversations(
    pairs: pd.DataFrame,
    grammar: CaptionGrammar | None,
    model: VisionLanguageModel,
    params: VisionLanguageParams,
    *,
    seed: int,
) -> list[Conversation]:
    """Returns one conversation for each pair: its caption, and what the caption answers, in random order.

    Args:
        pairs: Has the captions.
        grammar: What made them, which knows what they answer; None where people did.
        model: Whose chat is spoken.
        params: Says what is asked for.
        seed: Seeds the questions and the order; a pair's conversation depends on its caption id alone.

    Raises:
        ValueError: If questions are asked for and there is no grammar.
    """
    if params.questions_per_image and grammar is None:
        raise ValueError(
            "vision_language.questions_per_image must be 0 for a corpus whose captions come from no grammar. "
            f"Got {params.questions_per_image} instead."
        )
    conversations = []
    for caption_id, caption in zip(pairs["caption_id"], pairs["caption"], strict=True):
        rng = np.random.default_rng([seed, 71, *str(caption_id).encode()])
        turns = [Turn(params.caption_prompt, caption)]
        if grammar is not None and params.questions_per_image:
            turns += [Turn(*asked) for asked in grammar.ask(caption, rng, count=params.questions_per_image)]
        conversations.append(
            model.chat.encode([turns[index] for index in rng.permutation(len(turns))], with_image=True)
        )
    return conversations


def lesson_step(
    model: VisionLanguageModel, lessons: Lessons, params: VisionLanguageParams, *, seed: int
) -> Callable[[int], dict[str, torch.Tensor]]:
    """Returns the step function: index to the mean loss over the answers' tokens of one batch.

    With several micro-batches the gradient is accumulated here, and the loss has no graph; both are the same.

    Args:
        model: Trained in place.
        lessons: The training conversations.
        params: Batch sizes.
        seed: Seeds the order, and dropout.
    """
    size = params.training.micro_batch_size

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(lessons), batch_size=params.training.batch_size, seed=seed)
        count = _learnt_count(lessons, rows)
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        with _seeded_dropout(seed, index, device=model.device):
            if len(parts) == 1:
                return {"loss": _loss_sum(model, lessons, rows) / count}
            total = torch.zeros((), device=model.device)
            for part in parts:
                loss = _loss_sum(model, lessons, part) / count
                loss.backward()
                total += loss.detach()
            return {"loss": total}

    return step


@contextlib.contextmanager
def _seeded_dropout(seed: int, index: int, *, device: torch.device) -> Iterator[None]:
    """Makes what dropout leaves out in a step a function of the step's index, whatever was drawn before."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence((seed, 73, index)).generate_state(1)[0]))
        yield


@torch.no_grad()
def held_out_loss(model: VisionLanguageModel, lessons: Lessons, *, batch_size: int) -> float:
    """Returns the mean cross-entropy per answer token over held-out conversations; NaN where there are none."""
    total, count = 0.0, 0
    for start in range(0, len(lessons), batch_size):
        rows = np.arange(start, min(start + batch_size, len(lessons)))
        total += float(_loss_sum(model, lessons, rows))
        count += _learnt_count(lessons, rows)
    return total / count if count else float("nan")


def _loss_sum(model: VisionLanguageModel, lessons: Lessons, rows: np.ndarray) -> torch.Tensor:
    batch = model.batch([lessons.conversations[row] for row in rows])
    return model.loss_sum(lessons.patches(rows), batch)


def _learnt_count(lessons: Lessons, rows: np.ndarray) -> int:
    return sum(label != IGNORE_INDEX for row in rows for label in lessons.conversations[row].labels)
