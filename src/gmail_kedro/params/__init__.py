"""Every parameter group, typed and validated: a wrong value is refused before the first node runs.

One flat frozen dataclass for each ``params:`` group of ``conf/``; Kedro builds them from the YAML.
"""

from typing import Any

from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.base import ParameterError, Parameters, is_text
from gmail_kedro.params.diagnostics import DiagnosticsParams
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams, RetrieverParams
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.fine_tuning import FineTuningParams
from gmail_kedro.params.generation import GenerationParams, PairingParams
from gmail_kedro.params.mini_world import MiniBenchmarksParams, MiniWorldParams
from gmail_kedro.params.pretraining import PretrainingParams
from gmail_kedro.params.quality import QualityParams
from gmail_kedro.params.report import ReportParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.params.transfer import TransferParams
from gmail_kedro.params.vision_language import VisionLanguageParams

__all__ = [
    "GROUPS",
    "AlignmentParams",
    "DiagnosticsParams",
    "DownstreamParams",
    "EvaluationParams",
    "FineTuningParams",
    "GenerationParams",
    "IfcapParams",
    "MiniBenchmarksParams",
    "MiniWorldParams",
    "PairingParams",
    "ParameterError",
    "Parameters",
    "PretrainingParams",
    "QualityParams",
    "ReportParams",
    "RetrieverParams",
    "RunParams",
    "TransferParams",
    "VisionLanguageParams",
    "declared_type",
    "is_text",
]

GROUPS: dict[str, type[Parameters]] = {
    group.GROUP: group
    for group in (
        AlignmentParams,
        DiagnosticsParams,
        DownstreamParams,
        EvaluationParams,
        FineTuningParams,
        GenerationParams,
        IfcapParams,
        MiniBenchmarksParams,
        MiniWorldParams,
        PairingParams,
        PretrainingParams,
        QualityParams,
        ReportParams,
        RetrieverParams,
        RunParams,
        TransferParams,
        VisionLanguageParams,
    )
}


def declared_type(setting: str) -> Any:
    """Returns the type that a setting such as ``alignment.steps`` is declared with; None where no group declares it."""
    group, _, name = setting.partition(".")
    return GROUPS[group].types().get(name) if group in GROUPS else None
