"""The losses of the alignment: the paper's Eq. 1, its pairwise relatives, and our matching of moments.

Eq. 1 runs one way: generated images are the anchors, and the real candidates come from a frozen teacher. No candidate
carries a gradient, so candidates cost nothing but a row of a matrix: they may come from other processes, from a queue
or from a store of embeddings, and a batch of anchors may be cut anywhere (gradient accumulation) without changing the
gradient. CLIP's own two-way loss (``symmetric_loss``) has neither property.

Moment matching sees what Eq. 1 cannot, how the whole cloud of generated embeddings lies beside the real one: Eq. 1 is
content when every pair is closer than all strangers, and a shift that all generated images share moves every score
alike. These losses look at the batch as a cloud: its unit rows [B, D] against the mean and covariance of real
embeddings, or against a sample of them (``mmd_loss``).

Tensors in, tensors out: nothing here knows about models, files or processes.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F

from gmail_kedro.method.unit_rows import normalize_rows

MMD_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the samples' mean squared distance; a sum needs no tuned width


def alignment_loss(
    generated: torch.Tensor,
    real: torch.Tensor,
    *,
    temperature: float | torch.Tensor,
    first_positive: int = 0,
    same_image: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns Eq. 1: InfoNCE from generated anchors to real candidates, in one direction.

    L = -1/B sum_i log( exp(s_ii / tau) / sum_j exp(s_ij / tau) ),  s_ij = cos(generated_i, real_j).

    Each row depends on its own anchor and on constants, so any split of the anchors into micro-batches
    (with ``first_positive`` moved along) gives the same gradient.

    Args:
        generated: Student embeddings of generated images, of shape [B, D].
        real: Teacher embeddings of real candidates, of shape [M, D] with M >= ``first_positive`` + B.
        temperature: The paper's tau, greater than 0.
        first_positive: Column of row 0's positive; row i's is ``first_positive + i``.
        same_image: bool of shape [B, M], true where the candidate shows the anchor's own real image; such
            columns are no negatives and are left out, the positive itself excepted.

    Returns:
        A scalar, in float32 or wider.

    Raises:
        ValueError: If the temperature is not positive, or the shapes do not fit.

    Example:
        >>> alignment_loss(torch.eye(2), torch.eye(2), temperature=1.0)
        tensor(0.3133)
    """
    _check_shapes(generated, real, temperature, first_positive, same_image)
    scores = normalize_rows(generated) @ normalize_rows(real).T / temperature  # [B, M]
    positives = first_positive + torch.arange(len(generated), device=scores.device)  # [B]
    if same_image is not None:
        # One real image has several captions, so several generated images: its other rows are no negatives.
        excluded = same_image.clone()  # [B, M]
        excluded[torch.arange(len(generated), device=scores.device), positives] = False
        scores = scores.masked_fill(excluded, float("-inf"))
    return F.cross_entropy(scores, positives)


def sigmoid_alignment_loss(
    generated: torch.Tensor,
    real: torch.Tensor,
    *,
    scale: float | torch.Tensor,
    bias: float | torch.Tensor,
    first_positive: int = 0,
    same_image: torch.Tensor | None = None,
) -> torch.Tensor:
    """Returns SigLIP's pairwise form of the alignment: every cell of the score matrix is a yes-or-no question.

    L = -1/B sum_ij log sigmoid( z_ij (t cos_ij + b) ),  z = 1 on pairs and -1 elsewhere.

    Args:
        generated: Student embeddings, of shape [B, D].
        real: Real (or text) candidates, of shape [M, D].
        scale: t, the inverse of the temperature.
        bias: b; SigLIP starts at -10.
        first_positive: Column of row 0's positive.
        same_image: bool of shape [B, M]; such cells are left out, the positive itself excepted.

    Raises:
        ValueError: If the shapes do not fit.
    """
    _check_shapes(generated, real, 1.0, first_positive, same_image)
    logits = normalize_rows(generated) @ normalize_rows(real).T * scale + bias  # [B, M]
    rows = torch.arange(len(generated), device=logits.device)  # [B]
    signs = -torch.ones_like(logits)  # z of the equation, [B, M]
    signs[rows, first_positive + rows] = 1
    cells = F.logsigmoid(signs * logits)  # [B, M]
    if same_image is not None:
        cells = cells.masked_fill(same_image & (signs < 0), 0.0)
    return -cells.sum() / len(generated)  # by anchors and not by cells, as SigLIP does


def cosine_loss(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Returns the mean of 1 - cos over the rows of two [B, D] tensors.

    Raises:
        ValueError: If the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"cosine_loss needs rows in pairs. Got {list(first.shape)} and {list(second.shape)}.")
    return (1 - (normalize_rows(first) * normalize_rows(second)).sum(-1)).mean()


def symmetric_loss(
    generated: torch.Tensor, real: torch.Tensor, *, temperature: float | torch.Tensor, same_image: torch.Tensor | None
) -> torch.Tensor:
    """Returns the mean of Eq. 1 in both directions over one batch: CLIP's own loss.

    Args:
        generated: Of shape [B, D].
        real: Of shape [B, D]; row i belongs to row i.
        temperature: Greater than 0.
        same_image: bool of shape [B, B], symmetric, or None.

    Raises:
        ValueError: As ``alignment_loss``.
    """
    forth = alignment_loss(generated, real, temperature=temperature, same_image=same_image)
    back = alignment_loss(real, generated, temperature=temperature, same_image=same_image)
    return (forth + back) / 2


@dataclass(frozen=True)
class Moments:
    """First two moments of unit-normalised embeddings.

    Attributes:
        mean: Of shape [D].
        covariance: Divided by N, of shape [D, D].
        ridge: Added to the variances when they are inverted, as a fraction of their mean.
    """

    mean: torch.Tensor
    covariance: torch.Tensor
    ridge: float = 0.1

    @cached_property
    def whitener(self) -> torch.Tensor:
        """A matrix W [D, D] with W^T W = (cov + ridge * tr(cov) / D * I)^-1."""
        width = len(self.mean)
        ridge = self.ridge * self.covariance.trace() / width
        # Fewer rows than dimensions leave the covariance singular; float64, since small eigenvalues are what counts.
        factor = torch.linalg.cholesky((self.covariance + ridge * torch.eye(width).to(self.covariance)).double())
        return torch.linalg.solve_triangular(factor, torch.eye(width).to(factor), upper=False).to(self.covariance)


def embedding_moments(embeddings: torch.Tensor, *, ridge: float = 0.1) -> Moments:
    """Returns the moments of the unit-normalised rows of [N, D], in float32 or wider; for the ridge see ``Moments``."""
    unit = normalize_rows(embeddings)  # [N, D]
    mean = unit.mean(0)  # [D]
    centred = unit - mean
    return Moments(mean=mean, covariance=centred.T @ centred / len(unit), ridge=ridge)


def moment_loss(generated: torch.Tensor, real: Moments, *, form: str = "mean_covariance") -> torch.Tensor:
    """Returns how far the batch's moments are from the real ones.

    ``mean``: ||mean(g) - mean(r)||^2. ``covariance``: ||cov(g) - cov(r)||_F^2. ``mean_covariance``: their sum.
    ``trace``: the mean's term plus (tr cov(g) - tr cov(r))^2, which ReAlign matches without training.
    ``whitened_mean``: (mean(g) - mean(r))^T cov(r)^-1 (mean(g) - mean(r)), what a linear probe sees, estimated
    without the bias that the batch's own noise would add; it may be a little below 0.

    Args:
        generated: Student embeddings, of shape [B, D] with B >= 2.
        real: Moments of real embeddings of width D.
        form: One of the five.

    Raises:
        ValueError: If there are fewer than two rows, the widths differ or the form is unknown.
    """
    width = real.mean.shape
    if len(generated) < 2 or generated.shape[1:] != width or real.covariance.shape != (*width, *width):
        raise ValueError(
            "The arguments of moment_loss must be generated [B >= 2, D], mean [D] and covariance [D, D]. Got "
            f"{list(generated.shape)}, {list(real.mean.shape)} and {list(real.covariance.shape)} instead."
        )
    if form == "whitened_mean":
        return _whitened_mean(normalize_rows(generated), real)
    batch = embedding_moments(generated)
    means = (batch.mean - real.mean).square().sum()
    covariances = (batch.covariance - real.covariance).square().sum()
    forms = {
        "mean": means,
        "covariance": covariances,
        "mean_covariance": means + covariances,
        "trace": means + (batch.covariance.trace() - real.covariance.trace()).square(),
    }
    if form not in forms:
        known = sorted([*forms, "whitened_mean"])
        raise ValueError(f"The form of moment_loss must be one of {known}. Got {form!r} instead.")
    return forms[form]


def _whitened_mean(unit: torch.Tensor, real: Moments) -> torch.Tensor:
    """Returns the mean over pairs i != j of d_i^T cov^-1 d_j, d = row - mean(r)."""
    distances = (unit - real.mean) @ real.whitener.T  # [B, D]
    count = len(unit)
    # All pairs less those of a row with itself: the row's own noise squared is what would bias the estimate.
    return (distances.sum(0).square().sum() - distances.square().sum()) / (count * (count - 1))


def mmd_loss(generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Returns the unbiased squared maximum mean discrepancy of two samples of unit-normalised embeddings.

    The kernel is a sum of Gaussians exp(-||x - y||^2 / (2 s^2)) whose s^2 are multiples of the samples' mean squared
    distance. It may be a little below 0, because it is unbiased.

    Args:
        generated: Student embeddings, of shape [B, D] with B >= 2.
        real: A sample of real embeddings, of shape [M, D] with M >= 2.

    Raises:
        ValueError: If a sample has fewer than two rows, or the widths differ.
    """
    if min(len(generated), len(real)) < 2 or generated.shape[1:] != real.shape[1:]:
        raise ValueError(
            "The samples of mmd_loss must be [B >= 2, D] and [M >= 2, D]. "
            f"Got {list(generated.shape)} and {list(real.shape)} instead."
        )
    x, y = normalize_rows(generated), normalize_rows(real)
    # ||x - y||^2 = 2 - 2 cos on the sphere: [B, B], [M, M], [B, M]
    squared = [(2 - 2 * left @ right.T).clamp_min(0) for left, right in ((x, x), (y, y), (x, y))]
    # A constant of the step: the student is to move its cloud, not the width of the kernel.
    scale = squared[2].detach().mean().clamp_min(torch.finfo(x.dtype).tiny)
    factors = torch.tensor(MMD_BANDWIDTHS, dtype=x.dtype, device=x.device)[:, None, None]
    xx, yy, xy = (torch.exp(-part / (2 * factors * scale)).sum(0) for part in squared)
    b, m = len(x), len(y)
    within = (xx.sum() - xx.trace()) / (b * (b - 1)) + (yy.sum() - yy.trace()) / (m * (m - 1))
    return within - 2 * xy.mean()


def _check_shapes(
    generated: torch.Tensor,
    real: torch.Tensor,
    temperature: float | torch.Tensor,
    first_positive: int,
    same_image: torch.Tensor | None,
) -> None:
    if not temperature > 0:
        raise ValueError(f"The temperature of alignment_loss must be greater than 0. Got {temperature} instead.")
    if generated.ndim != 2 or real.ndim != 2 or generated.shape[1] != real.shape[1]:
        raise ValueError(
            "The embeddings of alignment_loss must be [B, D] and [M, D] of one width D. "
            f"Got {list(generated.shape)} and {list(real.shape)} instead."
        )
    if first_positive < 0 or first_positive + len(generated) > len(real):
        raise ValueError(
            f"The positives of alignment_loss must lie among the {len(real)} candidates. "
            f"Got rows {first_positive} to {first_positive + len(generated) - 1} instead."
        )
    if same_image is not None and same_image.shape != (len(generated), len(real)):
        raise ValueError(
            f"The argument same_image of alignment_loss must be of shape {[len(generated), len(real)]}. "
            f"Got {list(same_image.shape)} instead."
        )
