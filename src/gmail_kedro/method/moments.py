"""Moment matching: what Eq. 1 cannot see, how the whole cloud of generated embeddings lies beside the real one.

Eq. 1 is content when every pair is closer than all strangers, and a shift that all generated images share moves every
score alike. These losses look at the batch as a cloud: its unit rows [B, D] against the mean and covariance of real
embeddings, or against a sample of them (``mmd_loss``).
"""

from dataclasses import dataclass
from functools import cached_property

import torch

from gmail_kedro.method.unit_rows import normalize_rows

MMD_BANDWIDTHS = (0.25, 0.5, 1.0, 2.0, 4.0)  # of the samples' mean squared distance; a sum needs no tuned width


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
