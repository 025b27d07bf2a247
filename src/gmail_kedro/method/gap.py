"""The modality gap: how far apart generated and real embeddings are, seen from many sides.

A pair is one generated image and the real image whose caption made it. ``paired_cosine`` says how close pairs are,
``random_cosine`` how close strangers are, ``centroid_distance`` and ``trace`` how the two clouds lie. Whether they
can be told apart is in ``probe`` and ``neighbours``, their shapes in ``spectrum``, and which part of the gap is bias
and which is noise in ``frame``. No number alone is the gap: a mean shift closes the centroid distance and leaves every
pair as far apart as before, and a collapsed cloud has high cosines everywhere.

In all diagnostics ``generated`` and ``real`` are embeddings [N, D] of any norm, row i of one belonging to row i of the
other; ``groups`` names the real image of each pair, which may have several. They raise ``ValueError`` where the shapes
differ or a row is zero or not finite.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.method.frame import FixedFrame, decompose_gap, fit_frame
from gmail_kedro.method.neighbours import knn_mixing
from gmail_kedro.method.probe import probe_auc
from gmail_kedro.method.spectrum import frechet_distance, subspace_overlap, summarize_spectra
from gmail_kedro.method.unit_rows import group_numbers, unit_clouds, unit_pairs, unit_rows

FRAME_RANK = 16
NEIGHBOUR_COUNT = 20


def paired_cosine(generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Returns the cosine of every pair (Table 14), float32 of shape [N].

    Example:
        >>> paired_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
        tensor([0.7071])
    """
    unit_generated, unit_real = unit_pairs(generated, real)
    return (unit_generated * unit_real).sum(dim=1).float()


def centred_cosine(generated: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Returns the cosine of every pair after each cloud's own mean is taken away, float32 of shape [N].

    What all images of one side share counts for nothing; a row that is its cloud's mean has cosine 0.
    """
    unit_generated, unit_real = unit_pairs(generated, real)
    centred_generated, centred_real = unit_generated - unit_generated.mean(dim=0), unit_real - unit_real.mean(dim=0)
    return F.cosine_similarity(centred_generated, centred_real, dim=1).float()


def random_cosine(
    generated: torch.Tensor, real: torch.Tensor, groups: Sequence[str] | np.ndarray, *, seed: int
) -> torch.Tensor:
    """Returns the cosine of every generated image with a random other real image, float32 of shape [N].

    Raises:
        ValueError: As everywhere, or if one real image has more than half of the pairs, so that not every pair can
            get a stranger.
    """
    strangers = torch.as_tensor(_derangement(group_numbers(groups, len(generated)), seed), device=real.device)  # [N]
    return paired_cosine(generated, real[strangers])


def centroid_distance(generated: torch.Tensor, real: torch.Tensor) -> float:
    """Returns ||mu_g - mu_r||, the distance of the means of the unit rows [N, D] and [M, D], between 0 and 2."""
    unit_generated, unit_real = unit_clouds(generated, real)
    return float(torch.linalg.vector_norm(unit_generated.mean(dim=0) - unit_real.mean(dim=0)))


def trace(embeddings: torch.Tensor) -> float:
    """Returns E||e - mu||^2 of the unit rows [N, D]: the trace of their covariance, which is 1 - ||mu||^2."""
    unit = unit_rows(embeddings, "given")
    return float((unit - unit.mean(dim=0)).square().sum(dim=1).mean())


def short_gap_report(
    generated: torch.Tensor, real: torch.Tensor, groups: Sequence[str] | np.ndarray, *, seed: int
) -> dict[str, float]:
    """Returns the main measures of the gap by name; cosines are means over pairs.

    The seed decides the strangers, the folds and the null.
    """
    probe = probe_auc(generated, real, groups, seed=seed, folds=min(5, len(set(groups))))
    return {
        "paired_cosine": float(paired_cosine(generated, real).mean()),
        "random_cosine": float(random_cosine(generated, real, groups, seed=seed).mean()),
        "probe_auc": probe.auc,
        "probe_null_auc": probe.null_auc,
        "centroid_distance": centroid_distance(generated, real),
        "trace_generated": trace(generated),
        "trace_real": trace(real),
    }


def gap_report(
    generated: torch.Tensor,
    real: torch.Tensor,
    groups: Sequence[str] | np.ndarray,
    *,
    text: torch.Tensor | None = None,
    frame: FixedFrame | None = None,
    neighbour_count: int = NEIGHBOUR_COUNT,
    seed: int,
) -> dict[str, float]:
    """Returns all measures of the gap by name: those of ``short_gap_report`` and the shapes of the clouds.

    Args:
        generated: Embeddings of generated images [N, D].
        real: Embeddings of their real images [N, D].
        groups: The real image of each pair, of shape [N].
        text: Embeddings of the captions the pairs share [N, D]; adds the two image-text cosines.
        frame: The fixed frame of the decomposition; without it, one of rank 16 or less from these very pairs.
        neighbour_count: Neighbours of the mixing rate; at most all other rows are used.
        seed: Seeds the strangers, the folds and the null.
    """
    report = short_gap_report(generated, real, groups, seed=seed)
    frame = frame or fit_frame(generated, real, rank=usable_rank(generated, FRAME_RANK))
    report |= {
        "centred_cosine": float(centred_cosine(generated, real).mean()),
        "trace_ratio": report["trace_generated"] / report["trace_real"] if report["trace_real"] else 0.0,
        "frechet_distance": frechet_distance(generated, real),
        "knn_mixing": knn_mixing(generated, real, neighbour_count=min(neighbour_count, 2 * len(real) - 1)),
        "subspace_overlap": subspace_overlap(generated, real, rank=usable_rank(generated, frame.rank)),
    }
    report |= summarize_spectra(generated, real) | decompose_gap(frame, generated, real).scores()
    if text is not None:
        report["real_text_cosine"] = float(paired_cosine(real, text).mean())
        report["generated_text_cosine"] = float(paired_cosine(generated, text).mean())
    return report


def usable_rank(embeddings: torch.Tensor, rank: int) -> int:
    """Returns the rank, or the largest that a centred cloud [N, D] leaves room for, at least 1."""
    return max(1, min(rank, len(embeddings) - 1, embeddings.shape[1] - 1))


def _derangement(numbers: np.ndarray, seed: int) -> np.ndarray:
    """Returns a random permutation that sends no pair to its own group.

    With the groups lined up in random order, a rotation by at least the largest group, and by no more than what
    is left of the circle, leaves every group.
    """
    largest, count = int(np.bincount(numbers).max()), len(numbers)
    if 2 * largest > count:
        raise ValueError(
            f"No real image may have more than half of the pairs, or some have no stranger. Got {largest} of {count}."
        )
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(count), rng.permutation(numbers.max() + 1)[numbers]))
    permutation = np.empty(count, dtype=np.int64)
    permutation[order] = np.roll(order, -int(rng.integers(largest, count - largest + 1)))
    return permutation
