"""How the gap between generated and real embeddings is measured."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules


@dataclass(frozen=True)
class DiagnosticsParams(Parameters):
    """How the gap between generated and real embeddings is measured on held-out pairs.

    Attributes:
        pair_count: Largest number of held-out photographs, or null for all.
        neighbour_count: Neighbours of the mixing rate and of the preserved neighbourhoods.
        frame_rank: Directions that the fixed frame counts as principal.
        codec_size: Shorter side of the codec-matched pictures, in pixels.
        codec_quality: JPEG quality of the codec-matched pictures, 1 to 95.
        bootstrap_count: Resamples behind each interval.
        tsne_count: Pairs in the t-SNE figure.
        seed: Seeds resampling, probes, strangers and t-SNE.
    """

    pair_count: int | None
    neighbour_count: int
    frame_rank: int
    codec_size: int
    codec_quality: int
    bootstrap_count: int
    tsne_count: int
    seed: int

    GROUP: ClassVar[str] = "diagnostics"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="pair_count neighbour_count frame_rank codec_size bootstrap_count tsne_count",
        not_negative="seed",
        jpeg_quality="codec_quality",
    )
