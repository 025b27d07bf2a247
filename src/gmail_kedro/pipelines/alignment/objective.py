"""The weighted sum that an alignment run minimises: which embeddings it needs, and the loss of each term."""

import math

import numpy as np
import torch

from gmail_kedro.engine.grad_cache import Losses, Views
from gmail_kedro.method.alignment import alignment_loss, cosine_loss, sigmoid_alignment_loss, symmetric_loss
from gmail_kedro.method.moments import Moments, embedding_moments, mmd_loss, moment_loss
from gmail_kedro.models.student.student import Student
from gmail_kedro.params.alignment import AlignmentParams

MMD_SAMPLE = 1024
SIGMOID_BIAS = -10.0  # where it starts, as in SigLIP: nearly all pairs are negatives, and the first loss stays small


class Objective(torch.nn.Module):
    """All terms of the alignment, chosen and weighted by the parameters.

    Args:
        student: Its real head maps frozen features where the real tower does not move.
        params: Weights, forms, temperatures.
        teacher: Frozen features of the photographs by view, [N, ...], on the student's device.
        text: Frozen embeddings of the captions, [N, D], or None.
        image_ids: Photograph of each row, int64 [N].
        moment_rows: Rows whose teacher embeddings are the reference of moment matching, one a photograph.
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
        start = torch.tensor(math.log(1 / params.temperature))
        self.log_scale = torch.nn.Parameter(start, requires_grad=params.learn_temperature)
        learns_bias = params.align_form == "sigmoid" and params.learn_temperature
        self.bias = torch.nn.Parameter(torch.tensor(SIGMOID_BIAS), requires_grad=learns_bias)
        self._moment_rows = moment_rows
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
        """Whether photographs go through the tower that is trained."""
        p = self._params
        return p.topology == "shared" and p.align_weight + p.real_text_weight > 0

    @property
    def preserves(self) -> bool:
        """Whether the student is held to the teacher on photographs."""
        return self._params.preservation_weight > 0

    @property
    def sees_patches(self) -> bool:
        """Whether Eq. 1 sees patch tokens."""
        return self._params.align_weight > 0 and self._params.level != "pooled"

    @property
    def is_separable(self) -> bool:
        """Whether no row's loss depends on another row's trained embedding."""
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
        levels = {"pooled": ["embedding"], "patch_mean": ["patch_mean"], "both": ["embedding", "patch_mean"]}
        return torch.stack(
            [self._align_level(level, views, rows, negatives, first) for level in levels[self._params.level]]
        ).mean()

    def _align_level(
        self, level: str, views: Views, rows: np.ndarray, negatives: np.ndarray, first: int
    ) -> torch.Tensor:
        p, suffix = self._params, "" if level == "embedding" else "_patch"
        generated = views[f"generated{suffix}"]
        candidates = np.concatenate([rows, negatives])
        real = views[f"real{suffix}"] if self.moves_real else self._frozen_real(level, candidates)
        if p.stop_gradient_real:
            real = real.detach()
        part = rows[first : first + len(generated)]
        if p.align_form == "cosine":
            return cosine_loss(generated, real[first : first + len(generated)])
        same = None if p.same_image == "keep" else self._image_ids[part][:, None] == self._image_ids[candidates][None]
        scale = self.log_scale.exp()
        if p.align_form == "sigmoid":
            return sigmoid_alignment_loss(
                generated, real, scale=scale, bias=self.bias, first_positive=first, same_image=same
            )
        eq1 = alignment_loss(generated, real, temperature=1 / scale, first_positive=first, same_image=same)
        if p.direction == "generated_to_real":
            return eq1
        count = len(generated)
        own = None if same is None else same[:, :count].T
        return (eq1 + alignment_loss(real[:count], generated, temperature=1 / scale, same_image=own)) / 2

    def _frozen_real(self, view: str, rows: np.ndarray) -> torch.Tensor:
        """Returns real features of rows whose tower does not move, through the real head where there is one."""
        student = self._student[0]
        if view == "embedding" and student.heads is not None and self._params.real_path == "proj":
            return student.project(self._teacher["pooled"][rows], "real")
        return self._teacher[view][rows]

    def _text_contrast(self, image: torch.Tensor, views: Views, part: np.ndarray) -> torch.Tensor:
        text = views["text"] if "text" in views else self._text[part]  # type: ignore[index]
        ids = self._image_ids[part]
        same = None if self._params.same_image == "keep" else ids[:, None] == ids[None]
        encoder = self._student[0].encoder  # cosines are read as it was pre-trained
        scale, bias = encoder.logit_scale, encoder.logit_bias
        if bias is None:
            return symmetric_loss(image, text, temperature=1 / scale, same_image=same)
        return sigmoid_alignment_loss(image, text, scale=scale, bias=bias, same_image=same)

    def _real_moments(self, rows: np.ndarray) -> Moments:
        return embedding_moments(self._teacher["embedding"][rows], ridge=self._params.moment_ridge)

    def _match_moments(self, generated: torch.Tensor, negatives: np.ndarray) -> torch.Tensor:
        p, real = self._params, self._teacher["embedding"]
        from_queue = p.moment_reference == "queue" and len(negatives) > 1
        if p.moment_form == "mmd":
            return mmd_loss(generated, real[negatives if from_queue else self._mmd_rows])
        moments = self._real_moments(negatives) if from_queue else self._moments
        return moment_loss(generated, moments, form=p.moment_form)  # type: ignore[arg-type]
