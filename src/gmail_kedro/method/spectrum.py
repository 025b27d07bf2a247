"""The shape of a cloud of embeddings: its eigenvalues, how many directions it fills, and how two shapes differ.

Covariances are divided by N, as in ``gap.trace``. Eigenvalues come from singular values of the centred rows, never from
a covariance matrix, so small ones keep their digits and fewer rows than coordinates are no special case. A *spectrum*
is a list of eigenvalues, descending, none negative. Embeddings are as in ``gap``.
"""

import torch

from gmail_kedro.method.unit_rows import unit_clouds, unit_pairs, unit_rows

ZERO = 1e-12  # eigenvalues below this share of the largest are rounding


def eigenvalues(embeddings: torch.Tensor) -> torch.Tensor:
    """Returns the spectrum of the unit rows [N, D], float64 of shape [min(N, D)]; its sum is ``gap.trace``."""
    return covariance_spectrum(unit_rows(embeddings, "given"))


def covariance_spectrum(rows: torch.Tensor) -> torch.Tensor:
    """Returns the spectrum of rows [N, D] as they are, not normalised, float64 of shape [min(N, D)]."""
    wide = rows.double()
    return torch.linalg.svdvals(wide - wide.mean(dim=0)).square() / len(rows)


def effective_rank(spectrum: torch.Tensor) -> float:
    """Returns exp(-sum p log p) of the shares p of variance: K for K equal directions, 0 for a single point.

    Example:
        >>> round(effective_rank(torch.tensor([1.0, 1.0, 0.0])), 6)
        2.0
    """
    shares = _positive(spectrum)
    shares = shares / shares.sum()
    return float(torch.exp(-(shares * shares.log()).sum())) if len(shares) else 0.0


def effective_dimension(spectrum: torch.Tensor) -> float:
    """Returns tr(C)^2 / tr(C^2), the participation ratio: K for K equal directions, 0 for a single point."""
    values = _positive(spectrum)
    return float(values.sum().square() / values.square().sum()) if len(values) else 0.0


def anisotropy(spectrum: torch.Tensor, width: int) -> float:
    """Returns lambda_max / (tr(C) / D): 1 for a round cloud, D (the width) for a line, 0 for a single point."""
    values = _positive(spectrum)
    return float(values.max() * width / values.sum()) if len(values) else 0.0


def condition_number(spectrum: torch.Tensor) -> float:
    """Returns the largest eigenvalue over the smallest that is not rounding; 1 for a single point."""
    values = _positive(spectrum)
    return float(values.max() / values.min()) if len(values) else 1.0


def power_law_exponent(spectrum: torch.Tensor, *, energy: float = 0.99) -> float:
    """Returns alpha of lambda_i ~ i^-alpha: minus the slope of a least-squares line in the log-log plane.

    Fitted to the leading eigenvalues that hold the share ``energy``, in (0, 1], of the variance. With fewer than two
    of them it is 0.

    Example:
        >>> round(power_law_exponent(torch.arange(1.0, 9.0) ** -1.5), 4)
        1.5

    Raises:
        ValueError: If ``energy`` is out of range.
    """
    if not 0 < energy <= 1:
        raise ValueError(f"The energy of power_law_exponent must be above 0 and at most 1. Got {energy} instead.")
    values = _positive(spectrum)
    # A finite sample flattens the tail or cuts it off, and on a log scale the tail would rule the fit.
    before = values.cumsum(0) - values
    values = values[before < energy * values.sum() * (1 - ZERO)]
    if len(values) < 2:
        return 0.0
    ranks, heights = torch.arange(1, len(values) + 1, dtype=torch.float64).log(), values.log()
    ranks, heights = ranks - ranks.mean(), heights - heights.mean()
    return float(-(ranks @ heights) / (ranks @ ranks)) + 0.0  # no minus zero


def spectral_correlation(first: torch.Tensor, second: torch.Tensor) -> float:
    """Returns Pearson's correlation of two spectra, rank by rank: 1 if one is a multiple of the other.

    The longer one is cut to the shorter. Where one of them does not vary there is nothing to correlate: 0.
    """
    count = min(len(first), len(second))
    x, y = first[:count].double(), second[:count].double()
    x_centred, y_centred = x - x.mean(), y - y.mean()
    scale = float(torch.linalg.vector_norm(x_centred) * torch.linalg.vector_norm(y_centred))
    floor = ZERO * float(torch.linalg.vector_norm(x) * torch.linalg.vector_norm(y))
    return float(x_centred @ y_centred) / scale if scale > floor else 0.0


def subspace_overlap(generated: torch.Tensor, real: torch.Tensor, *, rank: int) -> float:
    """Returns ||U_g^T U_r||_F^2 / q of the leading q directions of both clouds: 1 for one subspace, 0 if orthogonal.

    Raises:
        ValueError: If the rank q is not between 1 and D and both row counts, the widths differ, or a row is unusable.
    """
    clouds = unit_clouds(generated, real)
    largest = min(len(clouds[0]), len(clouds[1]), clouds[0].shape[1])
    if not 1 <= rank <= largest:
        raise ValueError(f"The rank of subspace_overlap must be between 1 and {largest}. Got {rank} instead.")
    leading = [torch.linalg.svd(rows - rows.mean(dim=0), full_matrices=False).Vh[:rank] for rows in clouds]  # [q, D]
    return float((leading[0] @ leading[1].T).square().sum() / rank)


def frechet_distance(generated: torch.Tensor, real: torch.Tensor) -> float:
    """Returns the squared Frechet distance of Gaussians fitted to the unit rows [N, D] and [M, D] (FID's formula).

    ||mu_g - mu_r||^2 + tr(C_g) + tr(C_r) - 2 tr((C_g C_r)^1/2). The last trace is the sum of the singular values of
    A_g A_r^T, with A the centred rows over sqrt(N): no matrix root, and no trouble with fewer rows than coordinates.

    Raises:
        ValueError: If the widths differ, or a row is zero or not finite.
    """
    clouds = unit_clouds(generated, real)
    factors = [(rows - rows.mean(dim=0)) / len(rows) ** 0.5 for rows in clouds]
    between = (clouds[0].mean(dim=0) - clouds[1].mean(dim=0)).square().sum()
    traces = factors[0].square().sum() + factors[1].square().sum()
    # R of QR has the singular values of A in [D, D], however many rows A has.
    short = [torch.linalg.qr(factor, mode="r").R if len(factor) > factor.shape[1] else factor for factor in factors]
    shared = torch.linalg.svdvals(short[0] @ short[1].T).sum()
    return max(0.0, float(between + traces - 2 * shared))


def summarize_spectra(generated: torch.Tensor, real: torch.Tensor) -> dict[str, float]:
    """Returns the measures of both spectra and of the residuals of N pairs [N, D] by name.

    A residual is a pair's difference less the mean difference: what is left of the gap after a shift.

    Raises:
        ValueError: If the shapes differ, or a row is zero or not finite.
    """
    sides = dict(zip(("generated", "real"), unit_pairs(generated, real), strict=True))
    spectra = {name: covariance_spectrum(rows) for name, rows in sides.items()}
    residual = covariance_spectrum(sides["real"] - sides["generated"])
    summary: dict[str, float] = {}
    for name, spectrum in spectra.items():
        summary[f"effective_rank_{name}"] = effective_rank(spectrum)
        summary[f"effective_dimension_{name}"] = effective_dimension(spectrum)
        summary[f"power_law_exponent_{name}"] = power_law_exponent(spectrum)
    return summary | {
        "spectral_correlation": spectral_correlation(*spectra.values()),
        "residual_anisotropy": anisotropy(residual, real.shape[1]),
        "residual_effective_dimension": effective_dimension(residual),
    }


def _positive(spectrum: torch.Tensor) -> torch.Tensor:
    """Returns the eigenvalues that are not rounding, in float64."""
    values = spectrum.double()
    return values[(values > ZERO * values.max()) & (values > ZERO**2)] if len(values) else values
