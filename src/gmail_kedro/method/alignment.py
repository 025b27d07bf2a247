"""The paper's alignment objective (Eq. 1) and the moment matching that closes the gap it leaves.

Tensors in, tensors out: nothing here knows about models, files or processes.
"""

import torch
import torch.nn.functional as F


def alignment_loss(
    generated: torch.Tensor,
    real: torch.Tensor,
    *,
    temperature: float,
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
        same_image: bool of shape [B, M], true where the candidate shows the anchor's own photograph; such
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
    scores = _normalize(generated) @ _normalize(real).T / temperature
    positives = first_positive + torch.arange(len(generated), device=scores.device)
    if same_image is not None:
        excluded = same_image.clone()
        excluded[torch.arange(len(generated), device=scores.device), positives] = False
        scores = scores.masked_fill(excluded, float("-inf"))
    return F.cross_entropy(scores, positives)


def moment_loss(generated: torch.Tensor, mean: torch.Tensor, covariance: torch.Tensor) -> torch.Tensor:
    """Returns how far the batch's first two moments are from the real ones.

    ||mean(g) - mean(r)||^2 + ||cov(g) - cov(r)||_F^2 over unit-normalised embeddings. Eq. 1 cannot see a component
    that all generated embeddings share; this term sees just that.

    Args:
        generated: Student embeddings, of shape [B, D] with B >= 2.
        mean: Mean of the normalised real embeddings, of shape [D].
        covariance: Their covariance (divided by N), of shape [D, D].

    Raises:
        ValueError: If there are fewer than two rows or the widths differ.
    """
    if len(generated) < 2 or generated.shape[1:] != mean.shape or covariance.shape != (*mean.shape, *mean.shape):
        raise ValueError(
            "The arguments of moment_loss must be generated [B >= 2, D], mean [D] and covariance [D, D]. Got "
            f"{list(generated.shape)}, {list(mean.shape)} and {list(covariance.shape)} instead."
        )
    batch_mean, batch_covariance = embedding_moments(generated)
    return (batch_mean - mean).square().sum() + (batch_covariance - covariance).square().sum()


def embedding_moments(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns mean [D] and covariance [D, D] (divided by N) of the unit-normalised rows of [N, D]."""
    unit = _normalize(embeddings)
    mean = unit.mean(0)
    centred = unit - mean
    return mean, centred.T @ centred / len(unit)


def _normalize(embeddings: torch.Tensor) -> torch.Tensor:
    wide = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
    return F.normalize(wide, dim=-1)


def _check_shapes(
    generated: torch.Tensor,
    real: torch.Tensor,
    temperature: float,
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
