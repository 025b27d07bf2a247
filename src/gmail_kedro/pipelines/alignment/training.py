"""One alignment run: which pairs a step sees, what their embeddings are, and the losses of these."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from gmail_kedro.engine.batches import (
    FrozenActivations,
    PixelBatches,
    batch_rows,
    split_rows,
    unique_batch_rows,
    unseen_rows,
)
from gmail_kedro.engine.grad_cache import Losses, Views, accumulate_gradients, grad_cache
from gmail_kedro.models.student.student import Student
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.pipelines.alignment.objective import Objective


@dataclass(frozen=True)
class AlignmentData:
    """What the alignment learns from, row by row; N pairs, training and validation.

    Attributes:
        generated: The generated pictures, as pixels or after the frozen first blocks.
        real: The photographs, read only where they go through the student.
        teacher: Frozen features of the photographs by view (``embedding``, ``pooled``, ``patch_mean``), [N, ...].
        text: Frozen embeddings of the captions, [N, D], or None where no term needs them.
        tokens: The captions' tokens, [N, L], or None where the text tower is not tuned.
        image_ids: A number for each row's photograph, int64 [N], from 0 without a hole.
        train_rows: Rows that are trained on.
        val_rows: Rows that are held out.
    """

    generated: PixelBatches | FrozenActivations
    real: PixelBatches
    teacher: Mapping[str, torch.Tensor]
    text: torch.Tensor | None
    tokens: torch.Tensor | None
    image_ids: np.ndarray
    train_rows: np.ndarray
    val_rows: np.ndarray


Enter = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def _as_it_is(enter: Enter) -> Enter:
    return enter


class AlignmentStep:
    """The step function of an alignment run: a step's index to its losses.

    Args:
        student: What is trained.
        data: What it is trained on.
        objective: What is minimised.
        params: Batch size, negatives and the like.
        seed: Seeds the order of the pairs.
        device: Where the student is.
        prefix: Number of frozen blocks that the generated pictures have been through already, or None.
    """

    def __init__(
        self,
        student: Student,
        data: AlignmentData,
        objective: Objective,
        params: AlignmentParams,
        *,
        seed: int,
        device: torch.device,
        prefix: int | None = None,
    ) -> None:
        self._student, self._data, self._objective, self._params = student, data, objective, params
        self._seed, self._device = seed, device
        encoder, prepare = student.encoder, torch.compile if params.compile else _as_it_is
        self._enter = prepare(encoder.pool_image if prefix is None else partial(encoder.run_suffix, blocks=prefix))
        self._enter_real = prepare(encoder.pool_image)
        self._groups = np.unique(data.image_ids[data.train_rows], return_inverse=True)[1]
        self._photographs = unseen_rows(data.image_ids, data.train_rows)

    def __call__(self, index: int) -> Losses:
        """Returns the losses of a step; with micro-batches their gradient is already accumulated."""
        rows, negatives = self._batch(index), self._negatives(index)
        size = self._params.training.micro_batch_size
        if size is None or size >= len(rows):
            views = self.embed(rows, following=self._batch(index + 1))
            return self._objective.losses(views, rows, negatives=negatives)
        if self._objective.is_separable:
            return accumulate_gradients(
                self.embed,
                lambda views, first: self._objective.losses(views, rows, negatives=negatives, first=first),
                rows,
                size=size,
            )
        return grad_cache(
            self.embed, lambda views: self._objective.losses(views, rows, negatives=negatives), rows, size=size
        )

    @torch.no_grad()
    def validate(self) -> float:
        """Returns the loss of all held-out pairs, each other's negatives; batch statistics and dropout off."""
        rows = self._data.val_rows
        self._student.train(False)
        parts = [self.embed(part) for part in split_rows(rows, self._params.training.batch_size)]
        views = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        losses = self._objective.losses(views, rows, negatives=rows[:0])
        self._student.train()
        return float(losses["loss"])

    def embed(self, rows: np.ndarray, *, following: Iterable[int] = ()) -> Views:
        """Returns the embeddings that the losses need, by name, each [B, ...].

        Args:
            rows: The batch, or a part of it.
            following: Rows whose pictures are decoded meanwhile.
        """
        wants = self._objective
        views: dict[str, torch.Tensor] = {}
        if wants.sees_generated:
            generated = self._data.generated[rows].to(self._device)
            self._data.generated.prefetch(following)
            views |= self._views(self._enter(generated), "generated")
        if wants.moves_real:
            views |= self._views(self._pool_real(rows, following), "real")
        if wants.preserves:
            views["preserved"] = self._views(self._pool_real(rows, following), "generated")["generated"]
        if self._data.tokens is not None:
            views["text"] = self._student.encoder.encode_text(self._data.tokens[rows].to(self._device)).float()
        return views

    def _pool_real(self, rows: np.ndarray, following: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
        images = self._data.real[rows].to(self._device)
        self._data.real.prefetch(following)
        return self._enter_real(images)

    def _views(self, features: tuple[torch.Tensor, torch.Tensor], route: str) -> dict[str, torch.Tensor]:
        pooled, tokens = features
        views = {route: self._student.project(pooled, route).float()}
        if self._objective.sees_patches:
            views[f"{route}_patch"] = tokens.float().mean(dim=1)
        return views

    def _batch(self, index: int) -> np.ndarray:
        data, size = self._data, self._params.training.batch_size
        if self._params.same_image == "unique_per_batch":
            return data.train_rows[unique_batch_rows(index, self._groups, batch_size=size, seed=self._seed)]
        return data.train_rows[batch_rows(index, count=len(data.train_rows), batch_size=size, seed=self._seed)]

    def _negatives(self, index: int) -> np.ndarray:
        """Returns rows whose photographs are candidates beside the batch's own, one row a photograph."""
        if self._params.negatives == "batch":
            return self._data.train_rows[:0]
        if self._params.negatives == "cache":
            return self._photographs
        wanted, oldest = self._params.queue_size, max(0, index - self._queue_batches())
        queue = self._data.train_rows[:0]
        while len(queue) < min(wanted, len(self._photographs)) and index > oldest:
            index -= 1
            queue = unseen_rows(self._data.image_ids, np.concatenate([queue, self._batch(index)]))
        return queue[:wanted]

    def _queue_batches(self) -> int:
        """Returns how far back the queue looks at most: two epochs, or its work would grow with the step."""
        return 2 * -(-len(self._data.train_rows) // self._params.training.batch_size)
