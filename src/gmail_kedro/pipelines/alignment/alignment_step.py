"""One step of Algorithm 1: which pairs it sees, what their embeddings are, and the weighted sum that is minimised.

The teacher is frozen, so its features of the real images are computed once, before the first step, and the step is a
lookup on that side: a training decodes generated images alone, unless a term moves the real side. The batch and the
queue of negatives are functions of the step's index; nothing has to be stored for a run to go on where it was.

The paper leaves open whether Eq. 1 stands alone, what the real side is, and whether captions take part; every reading
is a set of weights here, and ours (moment matching, preservation) are terms beside the paper's. The ``Objective`` says
which towers have to run at all, so that the step computes no embedding that no term looks at.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from gmail_kedro.engine.batches import (
    FrozenActivations,
    PixelBatches,
    Stream,
    batch_rows,
    seeded_dropout,
    split_rows,
    unique_batch_rows,
    unseen_rows,
)
from gmail_kedro.engine.grad_cache import Losses, Views, accumulate_gradients, grad_cache
from gmail_kedro.method.alignment import (
    Moments,
    alignment_loss,
    cosine_loss,
    embedding_moments,
    mmd_loss,
    moment_loss,
    sigmoid_alignment_loss,
    symmetric_loss,
)
from gmail_kedro.models.student.student import Student
from gmail_kedro.params.alignment import AlignmentParams

SIGMOID_BIAS = -10.0  # where it starts, as in SigLIP: nearly all pairs are negatives, and the first loss stays small
MMD_SAMPLE = 1024  # of the real embeddings: the kernel's matrix has a row for each and a column for each other
LEVELS = {"pooled": ["embedding"], "patch_mean": ["patch_mean"], "both": ["embedding", "patch_mean"]}
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
        with seeded_dropout(self._seed, Stream.ALIGNMENT_DROPOUT, index, device=self._device):
            return self._losses(index)

    def _losses(self, index: int) -> Losses:
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
            generated = partial(encoder.run_suffix, blocks=frozen_block_count(self._student))
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


def teacher_views(params: AlignmentParams) -> list[str]:
    """Returns the views of real images that are needed from the frozen teacher."""
    views = ["embedding"]  # even at the level of patches: moments and preservation look at it
    if params.real_path == "proj":
        views.append("pooled")
    if params.level != "pooled":
        views.append("patch_mean")
    return views


def needs_text(params: AlignmentParams) -> bool:
    """Says whether a term needs the captions' embeddings."""
    return params.generated_text_weight + params.real_text_weight > 0


class Objective(torch.nn.Module):
    """All terms of the alignment, chosen and weighted by the parameters.

    Args:
        student: Its real head maps frozen features where the real tower does not move.
        params: Weights, forms, temperatures.
        teacher: Frozen features of the real images by view, [N, ...], on the student's device.
        text: Frozen embeddings of the captions, [N, D], or None.
        image_ids: Real image of each row, int64 [N].
        moment_rows: Rows whose teacher embeddings are the reference of moment matching, one a real image.
    """

    def __init__(
        self,
        student: Student,
        params: AlignmentParams,
        *,
        teacher: dict[str, torch.Tensor],
        text: torch.Tensor | None,
        image_ids: torch.Tensor,
        moment_rows: np.ndarray,
    ) -> None:
        super().__init__()
        self._student, self._params = [student], params  # in a list: its weights are not the objective's
        self._teacher, self._text, self._image_ids = teacher, text, image_ids
        # Learned as a logarithm, as CLIP's logit_scale is: a step cannot make it negative.
        start = torch.tensor(math.log(1 / params.temperature))
        self.log_scale = torch.nn.Parameter(start, requires_grad=params.learn_temperature)
        learns_bias = params.align_form == "sigmoid" and params.learn_temperature
        self.logit_bias = torch.nn.Parameter(torch.tensor(SIGMOID_BIAS), requires_grad=learns_bias)
        # Evenly spaced and always the same, so that the loss of a step is a function of its index.
        self._mmd_rows = moment_rows[np.linspace(0, len(moment_rows) - 1, min(MMD_SAMPLE, len(moment_rows)), dtype=int)]
        self._moments = self._real_moments(moment_rows) if params.moment_weight else None

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """Returns what the objective itself trains: the temperature, and the bias of the sigmoid form."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @property
    def sees_generated(self) -> bool:
        """Whether any term looks at generated images."""
        p = self._params
        return p.align_weight + p.generated_text_weight + p.moment_weight > 0

    @property
    def moves_real(self) -> bool:
        """Whether real images go through the tower that is trained."""
        p = self._params
        return p.topology == "shared" and p.align_weight + p.real_text_weight > 0

    @property
    def preserves(self) -> bool:
        """Whether the student is held to the teacher on real images."""
        return self._params.preservation_weight > 0

    @property
    def sees_patches(self) -> bool:
        """Whether Eq. 1 sees patch tokens."""
        return self._params.align_weight > 0 and self._params.level != "pooled"

    @property
    def is_separable(self) -> bool:
        """Whether no row's loss depends on another row's trained embedding: then one forward pass a part is enough."""
        p = self._params
        one_way = p.align_form != "softmax" or p.direction == "generated_to_real"
        others = p.generated_text_weight + p.real_text_weight + p.moment_weight
        return one_way and p.topology == "two_tower" and others == 0

    def losses(self, views: Views, rows: np.ndarray, *, negatives: np.ndarray, first: int = 0) -> Losses:
        """Returns every term with a weight, and their weighted sum as ``loss``.

        Args:
            views: Embeddings by name, of the batch or of a part of it.
            rows: The whole batch.
            negatives: Rows of further real candidates.
            first: Position in the batch of the part's first row.
        """
        p = self._params
        part = rows[first : first + len(next(iter(views.values())))]
        terms: dict[str, tuple[float, torch.Tensor]] = {}
        if p.align_weight:
            terms["align"] = p.align_weight, self._align(views, rows, negatives, first)
        if p.generated_text_weight:
            terms["generated_text"] = p.generated_text_weight, self._text_contrast(views["generated"], views, part)
        if p.real_text_weight:
            real = views["real"] if self.moves_real else self._frozen_real("embedding", part)
            terms["real_text"] = p.real_text_weight, self._text_contrast(real, views, part)
        if p.moment_weight:
            terms["moments"] = p.moment_weight, self._match_moments(views["generated"], negatives)
        if p.preservation_weight:
            kept = self._teacher["embedding"][part]
            terms["preservation"] = p.preservation_weight, cosine_loss(views["preserved"], kept)
        total = torch.stack([weight * value for weight, value in terms.values()]).sum()
        return {"loss": total} | {name: value for name, (_, value) in terms.items()}

    def _align(self, views: Views, rows: np.ndarray, negatives: np.ndarray, first: int) -> torch.Tensor:
        levels = LEVELS[self._params.level]
        return torch.stack([self._align_level(level, views, rows, negatives, first) for level in levels]).mean()

    def _align_level(
        self, level: str, views: Views, rows: np.ndarray, negatives: np.ndarray, first: int
    ) -> torch.Tensor:
        p, suffix = self._params, "" if level == "embedding" else "_patch"
        generated = views[f"generated{suffix}"]  # [b, D], a part of the batch
        candidates = np.concatenate([rows, negatives])  # the batch first: row i's positive is column first + i
        real = views[f"real{suffix}"] if self.moves_real else self._frozen_real(level, candidates)  # [B + Q, D]
        if p.stop_gradient_real:
            real = real.detach()
        part = rows[first : first + len(generated)]
        if p.align_form == "cosine":
            return cosine_loss(generated, real[first : first + len(generated)])
        # Several captions, and so several generated images, belong to one real image: no negatives of one another.
        same = None if p.same_image == "keep" else self._image_ids[part][:, None] == self._image_ids[candidates][None]
        scale = self.log_scale.exp()
        if p.align_form == "sigmoid":
            return sigmoid_alignment_loss(
                generated, real, scale=scale, bias=self.logit_bias, first_positive=first, same_image=same
            )
        eq1 = alignment_loss(generated, real, temperature=1 / scale, first_positive=first, same_image=same)
        if p.direction == "generated_to_real":
            return eq1
        count = len(generated)  # the other way round only the batch's own generated images are candidates
        own = None if same is None else same[:, :count].T
        return (eq1 + alignment_loss(real[:count], generated, temperature=1 / scale, same_image=own)) / 2

    def _frozen_real(self, view: str, rows: np.ndarray) -> torch.Tensor:
        """Returns real features of rows whose tower does not move, through the real head where there is one."""
        student = self._student[0]
        if view == "embedding" and student.heads is not None and self._params.real_path == "proj":
            return student.project(self._teacher["pooled"][rows], "real")
        return self._teacher[view][rows]

    def _text_contrast(self, image: torch.Tensor, views: Views, part: np.ndarray) -> torch.Tensor:
        text = views["text"] if "text" in views else self._text[part]  # type: ignore[index]  # [b, D]
        ids = self._image_ids[part]
        same = None if self._params.same_image == "keep" else ids[:, None] == ids[None]  # [b, b]
        encoder = self._student[0].encoder  # cosines are read as it was pre-trained
        scale, bias = encoder.logit_scale, encoder.logit_bias
        if bias is None:
            return symmetric_loss(image, text, temperature=1 / scale, same_image=same)
        return sigmoid_alignment_loss(image, text, scale=scale, bias=bias, same_image=same)

    def _real_moments(self, rows: np.ndarray) -> Moments:
        return embedding_moments(self._teacher["embedding"][rows], ridge=self._params.moment_ridge)

    def _match_moments(self, generated: torch.Tensor, negatives: np.ndarray) -> torch.Tensor:
        p, real = self._params, self._teacher["embedding"]
        from_queue = p.moment_reference == "queue" and len(negatives) > 1  # at first the queue is empty
        if p.moment_form == "mmd":
            return mmd_loss(generated, real[negatives if from_queue else self._mmd_rows])
        moments = self._real_moments(negatives) if from_queue else self._moments
        return moment_loss(generated, moments, form=p.moment_form)  # type: ignore[arg-type]


def frozen_block_count(student: Student) -> int:
    """Returns how many first blocks no adapter is in."""
    blocks = student.spec.image.blocks
    return 0 if blocks is None else min(blocks)
