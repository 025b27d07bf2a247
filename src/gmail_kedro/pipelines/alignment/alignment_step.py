"""One step of Algorithm 1: which pairs it sees, what their embeddings are, and the losses of these.

The teacher is frozen, so its features of the real images are computed once, before the first step, and the step is a
lookup on that side: a training decodes generated images alone, unless a term moves the real side. The batch and the
queue of negatives are functions of the step's index; nothing has to be stored for a run to go on where it was.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
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
from gmail_kedro.interfaces import Corpus, GeneratedImages
from gmail_kedro.models.student.student import Student
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.pipelines.alignment.objective import Objective

PoolImage = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class AlignmentData:
    """What the alignment learns from, row by row; N pairs, training and validation.

    Attributes:
        generated: The generated images, as pixels or after the frozen first blocks.
        real: The real images, read only where they go through the student.
        teacher: Frozen features of the real images by view (``embedding``, ``pooled``, ``patch_mean``), [N, ...].
        text: Frozen embeddings of the captions, [N, D], or None where no term needs them.
        tokens: The captions' tokens, [N, L], or None where the text tower is not tuned.
        image_ids: A number for each row's real image, int64 [N], from 0 without a hole.
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


def aligned_rows(pairs: pd.DataFrame, params: AlignmentParams) -> np.ndarray:
    """Returns the rows that are aligned: the training split's, of its first ``photograph_count`` real images."""
    is_train = (pairs["split"] == "train").to_numpy()
    if params.photograph_count is None:
        return np.flatnonzero(is_train)
    known = pairs.loc[is_train, "image_id"].unique()[: params.photograph_count]
    return np.flatnonzero(is_train & pairs["image_id"].isin(known).to_numpy())


def load_data(
    student: Student,
    pairs: pd.DataFrame,
    corpus: Corpus,
    generated_images: GeneratedImages,
    teacher_features: dict[str, torch.Tensor],
    params: AlignmentParams,
    *,
    device: torch.device,
) -> AlignmentData:
    """Returns the pairs as the step reads them.

    Raises:
        ValueError: If there are fewer than two training pairs.
    """
    train_rows = aligned_rows(pairs, params)
    if len(train_rows) < 2:
        raise ValueError(f"The alignment needs at least 2 training pairs. Got {len(train_rows)}. Generate more images.")
    encoder = student.encoder
    generated_keys = list(pairs["generated_key"])
    generated: PixelBatches | FrozenActivations = PixelBatches(encoder.preprocess, generated_images, generated_keys)
    if params.cache_prefix:
        generated = FrozenActivations(
            PixelBatches(encoder.preprocess, generated_images, generated_keys, limit_bytes=0),
            lambda images: encoder.run_prefix(images.to(device), blocks=_frozen_block_count(student)),
            remedy="Set alignment.cache_prefix to false.",
        )
    return AlignmentData(
        generated=generated,
        real=PixelBatches(encoder.preprocess, corpus.images, list(pairs["real_key"])),
        teacher={view: features for view, features in teacher_features.items() if view != "text"},
        text=teacher_features.get("text"),
        tokens=encoder.tokenize(list(pairs["caption"])) if params.tune_text else None,
        image_ids=pd.factorize(pairs["image_id"])[0].copy(),  # a copy: pandas may return a read-only view
        train_rows=train_rows,
        val_rows=np.flatnonzero(pairs["split"] != "train"),
    )


class AlignmentStep:
    """The step function of an alignment run: a step's index to its losses.

    Args:
        student: What is trained.
        data: What it is trained on.
        params: What is minimised, batch size, negatives and the like.
        seed: Seeds the order of the pairs.
        device: Where the student is.

    Attributes:
        objective: What is minimised; it may have parameters of its own.
    """

    def __init__(
        self, student: Student, data: AlignmentData, params: AlignmentParams, *, seed: int, device: torch.device
    ) -> None:
        self._student, self._data, self._params = student, data, params
        self._seed, self._device = seed, device
        self._images = unseen_rows(data.image_ids, data.train_rows)  # one row a real image
        self._groups = np.unique(data.image_ids[data.train_rows], return_inverse=True)[1]
        self.objective = Objective(
            student,
            params,
            teacher={view: features.to(device) for view, features in data.teacher.items()},
            text=None if data.text is None else data.text.to(device),
            image_ids=torch.from_numpy(data.image_ids).to(device),
            moment_rows=data.train_rows[np.unique(data.image_ids[data.train_rows], return_index=True)[1]],
        ).to(device)
        self._pool_generated, self._pool_real = self._towers()

    def __call__(self, index: int) -> Losses:
        """Returns the losses of a step; with micro-batches their gradient is already accumulated."""
        rows, negatives = self._batch(index), self._negatives(index)
        size = self._params.training.micro_batch_size
        if size is None or size >= len(rows):
            views = self.embed(rows, following=self._batch(index + 1))
            return self.objective.losses(views, rows, negatives=negatives)
        if self.objective.is_separable:
            return accumulate_gradients(
                self.embed,
                lambda views, first: self.objective.losses(views, rows, negatives=negatives, first=first),
                rows,
                size=size,
            )
        return grad_cache(
            self.embed, lambda views: self.objective.losses(views, rows, negatives=negatives), rows, size=size
        )

    @torch.no_grad()
    def validate(self) -> float:
        """Returns the loss of all held-out pairs, each other's negatives; batch statistics and dropout off."""
        rows = self._data.val_rows
        self._student.train(False)
        parts = [self.embed(part) for part in split_rows(rows, self._params.training.batch_size)]
        views = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}  # [V, ...]
        losses = self.objective.losses(views, rows, negatives=rows[:0])
        self._student.train()
        return float(losses["loss"])

    def embed(self, rows: np.ndarray, *, following: Iterable[int] = ()) -> Views:
        """Returns the embeddings that the losses need, by name, each [B, ...].

        Args:
            rows: The batch, or a part of it.
            following: Rows whose images are decoded meanwhile.
        """
        wants = self.objective
        views: dict[str, torch.Tensor] = {}
        if wants.sees_generated:
            generated = self._data.generated[rows].to(self._device)  # [B, 3, H, W], or [B, L, W] after the prefix
            self._data.generated.prefetch(following)
            views |= self._project(self._pool_generated(generated), "generated")
        if wants.moves_real:
            views |= self._project(self._embed_real(rows, following), "real")
        if wants.preserves:  # real images through the tower of the generated ones
            views["preserved"] = self._project(self._embed_real(rows, following), "generated")["generated"]
        if self._data.tokens is not None:
            views["text"] = self._student.encoder.encode_text(self._data.tokens[rows].to(self._device)).float()
        return views

    def _towers(self) -> tuple[PoolImage, PoolImage]:
        """Returns what maps generated images (pixels, or what the frozen blocks made of them) and real ones."""
        encoder = self._student.encoder
        generated: PoolImage = encoder.pool_image
        if self._params.cache_prefix:
            generated = partial(encoder.run_suffix, blocks=_frozen_block_count(self._student))
        if self._params.compile:
            return torch.compile(generated), torch.compile(encoder.pool_image)
        return generated, encoder.pool_image

    def _embed_real(self, rows: np.ndarray, following: Iterable[int]) -> tuple[torch.Tensor, torch.Tensor]:
        images = self._data.real[rows].to(self._device)  # [B, 3, H, W]
        self._data.real.prefetch(following)
        return self._pool_real(images)

    def _project(self, features: tuple[torch.Tensor, torch.Tensor], route: str) -> dict[str, torch.Tensor]:
        pooled, tokens = features  # [B, W], [B, P, W]
        # In single precision whatever autocast made of them: the losses divide by temperatures and norms.
        views = {route: self._student.project(pooled, route).float()}  # [B, D]
        if self.objective.sees_patches:
            views[f"{route}_patch"] = tokens.float().mean(dim=1)  # [B, W]
        return views

    def _batch(self, index: int) -> np.ndarray:
        data, size = self._data, self._params.training.batch_size
        if self._params.same_image == "unique_per_batch":
            return data.train_rows[unique_batch_rows(index, self._groups, batch_size=size, seed=self._seed)]
        return data.train_rows[batch_rows(index, count=len(data.train_rows), batch_size=size, seed=self._seed)]

    def _negatives(self, index: int) -> np.ndarray:
        """Returns rows whose real images are candidates beside the batch's own, one row an image."""
        if self._params.negatives == "batch":
            return self._data.train_rows[:0]
        if self._params.negatives == "cache":
            return self._images
        # The queue is not kept from step to step but drawn again from the batches before: a resumed run has the same.
        # Two epochs back hold every image, so that looking further would only cost more the longer a run is.
        batch_count = 2 * -(-len(self._data.train_rows) // self._params.training.batch_size)
        wanted, oldest = self._params.queue_size, max(0, index - batch_count)
        queue = self._data.train_rows[:0]
        while len(queue) < min(wanted, len(self._images)) and index > oldest:
            index -= 1
            queue = unseen_rows(self._data.image_ids, np.concatenate([queue, self._batch(index)]))
        return queue[:wanted]


def _frozen_block_count(student: Student) -> int:
    """Returns how many first blocks no adapter is in."""
    blocks = student.spec.image.blocks
    return 0 if blocks is None else min(blocks)
