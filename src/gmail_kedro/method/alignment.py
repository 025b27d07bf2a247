"""The paper's alignment objective (Eq. 1) and its pairwise relatives.

Eq. 1 runs one way: generated images are the anchors, and the real candidates come from a frozen teacher. No candidate
carries a gradient, so candidates cost nothing but a row of a matrix: they may come from other processes, from a queue
or from a store of embeddings, and a batch of anchors may be cut anywhere (gradient accumulation) without changing the
gradient. CLIP's own two-way loss (``symmetric_loss``) has neither property.

Tensors in, tensors out: nothing here knows about models, files or processes.
"""

import torch
import torch.nn.functional as F

from gmail_kedro.method.unit_rows import normalize_rows


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
