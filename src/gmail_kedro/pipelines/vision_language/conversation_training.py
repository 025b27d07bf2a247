"""What a vision-language model is trained on: conversations about images, each image through its own route.

The towers are frozen, so their tokens are computed once where memory allows and the step trains projector and LoRA on
stored tokens. Losses are sums over answer tokens, divided by the batch's count of them: conversations differ in length,
and a mean of the parts' means would weigh a micro-batch of short answers like one of long ones.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.batches import (
    FrozenActivations,
    Stream,
    batch_rows,
    mixed_rows,
    seeded_dropout,
    split_rows,
    stream_rng,
)
from gmail_kedro.interfaces import CaptionGrammar, Corpus, GeneratedImages, ImageSource
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX, Conversation, Turn
from gmail_kedro.models.vision_language.vision_language_model import VisionLanguageModel
from gmail_kedro.models.vision_language.vision_towers import VisionTower
from gmail_kedro.params.vision_language import VisionLanguageParams
from gmail_kedro.pipelines.vision_language.model_and_towers import open_tokens


@dataclass(frozen=True)
class TrainingExamples:
    """Conversations with their images.

    Attributes:
        tokens: What the tower made of the images, a row a conversation; one part for each route.
        conversations: M of them, in the order of the parts.
    """

    tokens: tuple[FrozenActivations, ...]
    conversations: tuple[Conversation, ...]

    def __len__(self) -> int:
        return len(self.conversations)

    def patches(self, rows: np.ndarray) -> torch.Tensor:
        """Returns the tokens of the rows' images, float16 [B, P, W]."""
        # Rows number the parts one after the other; each part numbers its own from 0.
        starts = np.cumsum([0, *(len(part) for part in self.tokens)])
        parts = np.searchsorted(starts, rows, side="right") - 1
        found: dict[int, torch.Tensor] = {}  # by place in the batch
        for part in np.unique(parts):
            mine = np.flatnonzero(parts == part)
            seen = self.tokens[part][(rows[mine] - starts[part]).tolist()]
            found |= dict(zip(mine.tolist(), seen, strict=True))
        return torch.stack([found[place] for place in range(len(rows))])


def load_examples(
    split: str,
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    model: VisionLanguageModel,
    towers: Mapping[str, VisionTower],
    params: VisionLanguageParams,
    *,
    seed: int,
) -> TrainingExamples:
    """Returns the conversations of one split's pairs with what each route's tower makes of their images."""
    chosen = pairs[pairs["split"] == split]
    # One part for each route: a tower refuses images of the other modality.
    rows = {params.train_on: np.arange(len(chosen))}
    if params.train_on == "mixed":
        real, generated = mixed_rows(len(chosen), params.real_fraction, seed=seed)
        rows = {"real": real, "generated": generated}
    written = write_conversations(chosen, corpus.grammar, model, params, seed=seed)
    sources: dict[str, ImageSource] = {"real": corpus.images, "generated": generated_images}
    tokens = tuple(
        open_tokens(
            model,
            towers[route],
            sources[route],
            list(chosen[f"{route}_key"].iloc[kept]),
            origin=route,
            cache_gib=params.cache_gib / len(rows),  # the limit is on all tokens together
        )
        for route, kept in rows.items()
    )
    return TrainingExamples(tokens, tuple(written[row] for kept in rows.values() for row in kept))


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
        # By the caption's id and not its place: more pairs, or other ones, leave each conversation as it was.
        rng = stream_rng(seed, Stream.CONVERSATIONS, *str(caption_id).encode())
        # The caption is always asked for: it is what the paper trains on, and all there is without a grammar.
        turns = [Turn(params.caption_prompt, caption)]
        if grammar is not None and params.questions_per_image:
            turns += [Turn(*asked) for asked in grammar.ask(caption, rng, count=params.questions_per_image)]
        conversations.append(
            model.chat.encode([turns[index] for index in rng.permutation(len(turns))], with_image=True)
        )
    return conversations


def training_step(
    model: VisionLanguageModel, examples: TrainingExamples, params: VisionLanguageParams, *, seed: int
) -> Callable[[int], dict[str, torch.Tensor]]:
    """Returns the step function: index to the mean loss over the answers' tokens of one batch.

    With several micro-batches the gradient is accumulated here, and the loss has no graph; both are the same.

    Args:
        model: Trained in place.
        examples: The training conversations.
        params: Batch sizes.
        seed: Seeds the order, and dropout.
    """
    size = params.training.micro_batch_size

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(examples), batch_size=params.training.batch_size, seed=seed)
        count = _answer_token_count(examples, rows)  # of the whole batch, or parts would weigh alike
        parts = split_rows(rows, size)
        with seeded_dropout(seed, Stream.LANGUAGE_DROPOUT, index, device=model.device):
            if len(parts) == 1:
                return {"loss": _loss_sum(model, examples, rows) / count}
            total = torch.zeros((), device=model.device)
            for part in parts:
                loss = _loss_sum(model, examples, part) / count
                loss.backward()  # part by part: the graph of a whole batch would not fit into memory
                total += loss.detach()
            return {"loss": total}

    return step


@torch.no_grad()
def held_out_loss(model: VisionLanguageModel, examples: TrainingExamples, *, batch_size: int) -> float:
    """Returns the mean cross-entropy per answer token over held-out conversations; NaN where there are none."""
    total, count = 0.0, 0
    for rows in split_rows(np.arange(len(examples)), batch_size):
        total += float(_loss_sum(model, examples, rows))
        count += _answer_token_count(examples, rows)
    return total / count if count else float("nan")


def _loss_sum(model: VisionLanguageModel, examples: TrainingExamples, rows: np.ndarray) -> torch.Tensor:
    batch = model.batch([examples.conversations[row] for row in rows])
    return model.loss_sum(examples.patches(rows), batch)


def _answer_token_count(examples: TrainingExamples, rows: np.ndarray) -> int:
    return sum(label != IGNORE_INDEX for row in rows for label in examples.conversations[row].labels)
