"""Every parameter group, typed and validated: a wrong value is refused before the first node runs.

One flat frozen dataclass for each ``params:`` group of ``conf/``; Kedro builds them from the YAML.
"""

from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.base import ParameterError, Parameters
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
]
