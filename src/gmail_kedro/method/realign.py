"""Training-free alignment: maps that move source features (generated images, or texts) to where real images lie.

ReAlign (arXiv 2602.07026, Section 4), C3 and the mean shift need nothing but means and traces of unpaired sets, so
they are fitted in a few passes over streams, in memory that does not grow with the number of rows. They are the
baseline that any training has to beat, and can follow it: behind the student's embeddings instead of the teacher's.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from gmail_kedro.method.unit_rows import unit_rows

NOISE_VARIANCE = 0.016

Stream = Callable[[], Iterable[torch.Tensor]]  # a function that starts again: maps are fitted in several passes

_STATISTICS = {
    "none": (),
    "realign": ("source_mean", "target_mean", "scale", "output_mean"),
    "c3": ("source_mean", "target_mean", "noise_variance"),
    "mean_shift": ("source_mean", "target_mean"),
}
KINDS = tuple(_STATISTICS)


@dataclass(frozen=True)
class FeatureMap:
    """A fitted map; N(v) is v / ||v||, mu_y and mu_x are the means of the unit source and target rows.

    ``none`` is N on both sides; ``mean_shift`` is N(e - mu_y + mu_x); ``realign`` is N(N(mu_x + s (e - mu_y)) - mu' +
    mu_x); ``c3`` is N(e - mu_y + noise) and, on the target side, N(e - mu_x). All take e = N(feature) first.

    Attributes:
        kind: One of ``KINDS``.
        statistics: Exactly those the kind needs, float64, as a safetensors file stores them: ``source_mean`` mu_y [D]
            and ``target_mean`` mu_x [D]; for ``realign`` the ``scale`` s = sqrt(T_x / T_y) and the ``output_mean`` mu'
            [D], of the source rows after anchor and trace; for ``c3`` the ``noise_variance`` of each coordinate.
    """

    kind: str
    statistics: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuses an unknown kind, and other statistics than the kind's.

        Raises:
            ValueError: In these cases.
        """
        _check_kind(self.kind)
        if sorted(self.statistics) != sorted(_STATISTICS[self.kind]):
            raise ValueError(
                f"A feature map of kind {self.kind!r} needs the statistics {sorted(_STATISTICS[self.kind])}. "
                f"Got {sorted(self.statistics)} instead. Fit it again."
            )

    def source(self, features: torch.Tensor, *, noise_seed: int | None = None) -> torch.Tensor:
        """Returns mapped source features [N, D], any norm, as unit rows in float32 (in float64 for float64 features).

        Args:
            features: Source features [N, D], any norm.
            noise_seed: For training with ``c3``: seeds the noise that is added; a row's noise depends on the seed
                and on its position. Without it, and for the other kinds, nothing is added.

        Raises:
            ValueError: If the width is not the fitted one, or a row is zero or not finite, before or after the map.
        """
        unit = self._checked(features, "source")
        if self.kind == "none":
            return unit.to(_wide_dtype(features))
        known = {name: value.to(unit) for name, value in self.statistics.items()}
        source_mean, target_mean = known["source_mean"], known["target_mean"]  # [D] each
        if self.kind == "realign":
            moved = _restretched(unit, source_mean, target_mean, float(known["scale"]))
            # Back on the sphere the mean is off again: the paper's third step, centroid alignment.
            moved = moved - known["output_mean"] + target_mean
        elif self.kind == "mean_shift":
            moved = unit - source_mean + target_mean
        else:
            moved = unit - source_mean
            if noise_seed is not None:
                moved = moved + _noise(unit, noise_seed, variance=float(known["noise_variance"]))
        return unit_rows(moved, "mapped source").to(_wide_dtype(features))

    def target(self, features: torch.Tensor) -> torch.Tensor:
        """Returns target features [N, D] as unit rows: centred for ``c3``, else only normalised.

        Raises:
            ValueError: As in ``source``.
        """
        unit = self._checked(features, "target")
        if self.kind == "c3":
            unit = unit_rows(unit - self.statistics["target_mean"].to(unit), "mapped target")
        return unit.to(_wide_dtype(features))

    def _checked(self, features: torch.Tensor, name: str) -> torch.Tensor:
        unit = unit_rows(features, name)
        width = len(self.statistics["source_mean"]) if self.statistics else unit.shape[1]
        if unit.shape[1] != width:
            raise ValueError(
                f"The {name} features must have the width {width} that the map was fitted on. "
                f"Got {unit.shape[1]} instead. Fit it again after a change of encoder."
            )
        return unit


def fit_feature_map(
    kind: str, source: Stream, target: Stream, *, epsilon: float = 1e-10, noise_variance: float = NOISE_VARIANCE
) -> FeatureMap:
    """Fits a map on unpaired sets, in the order of Section 4 of ReAlign.

    mu and T = E||e - mu||^2 of both sides; s = sqrt(T_x / (T_y + epsilon)); then mu', the mean of
    N(mu_x + s (e_y - mu_y)). ``realign`` reads the source three times and the target twice, ``c3`` and
    ``mean_shift`` read each once, ``none`` reads nothing. Sums are in float64; one chunk is held at a time.

    Fit on training rows and measure on others: means that match exactly on the measured rows send a probe's AUC
    far below 0.5, because what one fold has too much of, the others have too little of.

    Example:
        >>> shift = fit_feature_map("mean_shift", lambda: [torch.eye(2)[:1]], lambda: [torch.eye(2)[1:]])
        >>> shift.source(torch.tensor([[2.0, 0.0]]))
        tensor([[0., 1.]])

    Args:
        kind: One of ``KINDS``.
        source: Returns, each time it is called, the same chunks [n, D] of source features, any norm.
        target: The same for target features.
        epsilon: Added to T_y, against a source that is one point.
        noise_variance: Of ``c3``'s training noise, in each coordinate; 0 or greater.

    Raises:
        ValueError: If the kind is unknown, a stream is empty or differs from pass to pass, widths differ, a row is
            zero or not finite, or the noise variance is negative.
    """
    _check_kind(kind)
    if not noise_variance >= 0:
        raise ValueError(f"The noise_variance of fit_feature_map must be 0 or greater. Got {noise_variance} instead.")
    if kind == "none":
        return FeatureMap(kind)
    source_count, source_mean = _mean(source, "source", None)
    target_count, target_mean = _mean(target, "target", len(source_mean))
    means = {"source_mean": source_mean, "target_mean": target_mean}
    if kind == "c3":
        return FeatureMap(kind, means | {"noise_variance": torch.tensor(noise_variance, dtype=torch.float64)})
    if kind == "mean_shift":
        return FeatureMap(kind, means)
    spread = _trace(source, "source", source_mean, source_count)
    scale = math.sqrt(_trace(target, "target", target_mean, target_count) / (spread + epsilon))
    total = torch.zeros_like(source_mean)
    for unit in _chunks(source, "source", len(source_mean), source_count):
        total += _restretched(unit, source_mean, target_mean, scale).sum(dim=0)
    stretch = torch.tensor(scale, dtype=torch.float64)
    return FeatureMap(kind, means | {"scale": stretch, "output_mean": total / source_count})


def _noise(rows: torch.Tensor, seed: int, *, variance: float) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)  # on the CPU: the same noise on every device
    drawn = torch.randn(rows.shape, generator=rng, dtype=torch.float64).to(rows.device)
    return drawn * math.sqrt(variance)


def _restretched(
    unit: torch.Tensor, source_mean: torch.Tensor, target_mean: torch.Tensor, scale: float
) -> torch.Tensor:
    """Anchor and trace in one affine map, back on the sphere: N(mu_x + s (e - mu_y))."""
    return unit_rows(target_mean + scale * (unit - source_mean), "stretched source")


def _mean(stream: Stream, name: str, width: int | None) -> tuple[int, torch.Tensor]:
    count, total = 0, torch.zeros(0, dtype=torch.float64)
    for unit in _chunks(stream, name, width, None):
        total = unit.sum(dim=0) if count == 0 else total + unit.sum(dim=0)
        count += len(unit)
    return count, total / count


def _trace(stream: Stream, name: str, mean: torch.Tensor, count: int) -> float:
    return sum(float((unit - mean).square().sum()) for unit in _chunks(stream, name, len(mean), count)) / count


def _chunks(stream: Stream, name: str, width: int | None, expected: int | None) -> Iterator[torch.Tensor]:
    """Yields unit rows on the CPU, chunk by chunk, and checks at the end how many there were."""
    count = 0
    for features in stream():
        if features.ndim == 2 and len(features) == 0:
            continue
        unit = unit_rows(features, name).cpu()
        width = unit.shape[1] if width is None else width
        if unit.shape[1] != width:
            raise ValueError(f"All features must have the width {width}. Got {unit.shape[1]} in the {name} stream.")
        count += len(unit)
        yield unit
        del features, unit  # before the next chunk is made: one is held at a time
    if count == 0 and expected is None:
        raise ValueError(f"The {name} stream of fit_feature_map is empty: there is nothing to fit the map on.")
    if expected is not None and count != expected:
        raise ValueError(
            f"The {name} stream must give the same rows each time it is called. Got {expected} rows in its first "
            f"pass and {count} in a later one. Give a function that starts again, not a generator."
        )


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"The kind of a feature map must be one of {list(KINDS)}. Got {kind!r} instead.")


def _wide_dtype(features: torch.Tensor) -> torch.dtype:
    return torch.float64 if features.dtype == torch.float64 else torch.float32
