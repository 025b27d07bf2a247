"""How the gap between generated and real embeddings is measured."""

from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from gmail_kedro.params.base import JpegQuality, Parameters


class DiagnosticsParams(Parameters):
    """How the gap is measured on held-out pairs, before and after alignment.

    The codec-matched control puts both sides through one resize and JPEG before they are encoded: what it takes away
    was the codec's.
    """

    GROUP: ClassVar[str] = "diagnostics"

    pair_count: PositiveInt | None  # largest number of held-out real images; null: all
    neighbour_count: PositiveInt  # of the mixing rate and of the preserved neighbourhoods
    frame_rank: PositiveInt  # directions that the fixed frame counts as principal
    codec_size: PositiveInt  # shorter side of the codec-matched images, in pixels
    codec_quality: JpegQuality
    bootstrap_count: PositiveInt  # resamples behind each interval
    tsne_count: PositiveInt  # pairs in the t-SNE figure
    seed: NonNegativeInt  # of resampling, probes, strangers and t-SNE
