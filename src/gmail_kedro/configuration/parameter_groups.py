"""All parameter groups by their keys in ``conf/``; who needs one group imports that group's own module."""

from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from gmail_kedro.mini.pretraining.params import PretrainingParams
from gmail_kedro.mini.world.params import MiniBenchmarksParams, MiniWorldParams
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.base import Parameters
from gmail_kedro.params.diagnostics import DiagnosticsParams
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams, RetrieverParams
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.fine_tuning import FineTuningParams
from gmail_kedro.params.generation import GenerationParams, PairingParams
from gmail_kedro.params.quality import QualityParams
from gmail_kedro.params.report import ReportParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.params.transfer import TransferParams
from gmail_kedro.params.vision_language import VisionLanguageParams

_ALL: tuple[type[Parameters], ...] = (
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

GROUPS = {group.GROUP: group for group in _ALL}

# Every setting by its whole name, such as ``alignment.training.steps``, with the group that has it.
SETTINGS = {f"{key}.{name}": (group, name) for key, group in GROUPS.items() for name in group.leaves()}


def is_text(setting: str) -> bool:
    """Says whether a setting is text, one of several words, or such or null."""
    return _is_text(_annotation(setting))


def may_be_null(setting: str) -> bool:
    """Says whether a setting may be null."""
    return NoneType in get_args(_annotation(setting))


def _annotation(setting: str) -> Any:
    group, name = SETTINGS[setting]
    return group.leaves()[name].annotation


def _is_text(annotation: Any) -> bool:
    if annotation is str or get_origin(annotation) is Literal:
        return True
    if get_origin(annotation) is Annotated:
        return _is_text(get_args(annotation)[0])
    return NoneType in get_args(annotation) and any(map(_is_text, get_args(annotation)))
