"""The gap in a fixed frame (arXiv 2602.07026, Section 3): which part of it is bias and which is noise.

With U the leading directions of Cov(real) + Cov(generated) at a reference time and V the rest, the paired gap
Delta = real - generated is beta + gamma + delta + zeta: its mean inside U (principal mean bias) and inside V
(passive orthogonal bias), and what is left of each pair inside U and inside V. The frame stays where it is while
the student moves, so that times can be compared. Inputs are as in ``gap``.
"""

import math
from dataclasses import dataclass

import torch

from gmail_kedro.method.spectrum import condition_number, covariance_spectrum
from gmail_kedro.method.unit_rows import unit_clouds, unit_pairs


@dataclass(frozen=True)
class FixedFrame:
    """The two subspaces, fixed at a reference time.

    Attributes:
        principal: Orthonormal basis of U, float64 [D, r].
        orthogonal: Orthonormal basis of V, float64 [D, D - r].
    """

    principal: torch.Tensor
    orthogonal: torch.Tensor

    @property
    def rank(self) -> int:
        """The r of U."""
        return self.principal.shape[1]


@dataclass(frozen=True)
class GapDecomposition:
    """The four parts of a paired gap in a fixed frame.

    Attributes:
        pmb: beta = P_U E[Delta], the principal mean bias, float64 [D].
        pob: gamma = P_V E[Delta], the passive orthogonal bias, float64 [D].
        principal_spectrum: Eigenvalues of Cov(delta), descending.
        orthogonal_spectrum: Eigenvalues of Cov(zeta), descending.
        pob_angle: Angle between gamma and the first principal direction of zeta, in degrees, 0 to 90; 90 if one of
            them is zero.
    """

    pmb: torch.Tensor
    pob: torch.Tensor
    principal_spectrum: torch.Tensor
    orthogonal_spectrum: torch.Tensor
    pob_angle: float

    def scores(self) -> dict[str, float]:
        """Returns norms, traces, condition numbers and the angle by name."""
        return {
            "pmb_norm": float(torch.linalg.vector_norm(self.pmb)),
            "pob_norm": float(torch.linalg.vector_norm(self.pob)),
            "principal_residual_trace": float(self.principal_spectrum.sum()),
            "principal_residual_condition": condition_number(self.principal_spectrum),
            "orthogonal_residual_trace": float(self.orthogonal_spectrum.sum()),
            "orthogonal_residual_condition": condition_number(self.orthogonal_spectrum),
            "pob_angle_degrees": self.pob_angle,
        }


def fit_frame(generated: torch.Tensor, real: torch.Tensor, *, rank: int) -> FixedFrame:
    """Returns the frame of two clouds [N, D] and [M, D]: the leading directions of the sum of their covariances.

    Raises:
        ValueError: If the rank r is not between 1 and D - 1, the widths differ, or a row is zero or not finite.
    """
    clouds = unit_clouds(generated, real)
    width = clouds[0].shape[1]
    if not 1 <= rank < width:
        raise ValueError(f"The rank of a fixed frame must be between 1 and {width - 1}. Got {rank} instead.")
    factor = torch.cat([(rows - rows.mean(dim=0)) / len(rows) ** 0.5 for rows in clouds])  # [N + M, D]
    # Here the matrix itself and not singular values: V needs all D directions, those without variance too.
    directions = torch.linalg.eigh(factor.T @ factor).eigenvectors.flip(1)  # [D, D], leading first
    return FixedFrame(principal=directions[:, :rank], orthogonal=directions[:, rank:])


def decompose_gap(frame: FixedFrame, generated: torch.Tensor, real: torch.Tensor) -> GapDecomposition:
    """Returns the parts of the paired gap real - generated, of unit rows [N, D], in a frame of the reference time.

    ||beta||^2 + ||gamma||^2 is the squared centroid distance; the two traces add up to that of Cov(Delta).

    Raises:
        ValueError: If the shapes differ, a row is zero or not finite, or the width is not the frame's.
    """
    unit_generated, unit_real = unit_pairs(generated, real)
    width = len(frame.principal)
    if unit_real.shape[1] != width:
        raise ValueError(f"The frame is for embeddings of width {width}. Got {unit_real.shape[1]} instead.")
    gap = unit_real - unit_generated  # [N, D]
    inside, outside = (gap @ basis.to(gap.device) for basis in (frame.principal, frame.orthogonal))  # [N, r], [N, D-r]
    mean_inside, mean_outside = inside.mean(dim=0).cpu(), outside.mean(dim=0).cpu()
    return GapDecomposition(
        pmb=frame.principal.cpu() @ mean_inside,
        pob=frame.orthogonal.cpu() @ mean_outside,
        principal_spectrum=covariance_spectrum(inside),
        orthogonal_spectrum=covariance_spectrum(outside),
        pob_angle=_angle_to_first_direction(mean_outside, outside.cpu()),
    )


def relative_drift(now: torch.Tensor, reference: torch.Tensor) -> float:
    """Returns ||now - reference|| / ||reference|| of a vector [D], such as gamma; 0 if neither has a norm."""
    moved, norm = (float(torch.linalg.vector_norm(vector)) for vector in (now - reference, reference))
    return moved / norm if norm else (math.inf if moved else 0.0)


def _angle_to_first_direction(bias: torch.Tensor, rows: torch.Tensor) -> float:
    centred = rows - rows.mean(dim=0)
    length = float(torch.linalg.vector_norm(bias))
    if length == 0 or not centred.any():
        return 90.0
    first = torch.linalg.svd(centred, full_matrices=False).Vh[0]
    # A direction has no sign, so the angle is at most 90; rounding can put a cosine a little above 1.
    return math.degrees(math.acos(min(1.0, abs(float(first @ bias)) / length)))
