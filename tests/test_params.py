"""Parameter groups: what the configuration says is accepted, and what is wrong is refused by name."""

import math
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from kedro.config import OmegaConfigLoader

from gmail_kedro.params import (
    AlignmentParams,
    DiagnosticsParams,
    EvaluationParams,
    ParameterError,
    Parameters,
    RunParams,
)
from gmail_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).resolve().parents[1]
GROUPS = Parameters.__subclasses__()
EXPERIMENTS = yaml.safe_load((ROOT / "conf/base/experiments.yml").read_text())["runs"]
RESERVED = ("pipelines", "set", "starts_from")  # what a row says beside parameters
ENVIRONMENTS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())


def load(environment: str) -> dict:
    return OmegaConfigLoader(str(ROOT / "conf"), env=environment, **CONFIG_LOADER_ARGS)["parameters"]


@pytest.fixture(scope="module")
def base() -> dict:
    return load("base")


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.GROUP)
def test_fields_are_the_keys_of_the_configuration(group: type[Parameters], base: dict):
    assert [field.name for field in fields(group)] == list(base[group.GROUP])


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.GROUP)
def test_every_rule_is_of_a_field(group: type[Parameters]):
    assert group.RULES.keys() <= {field.name for field in fields(group)}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.GROUP)
def test_every_profile_builds(group: type[Parameters], environment: str):
    values = load(environment)[group.GROUP]
    assert asdict(group(**values)) == values


def test_a_profile_keeps_what_it_does_not_mention(base: dict):
    paper = load("paper")
    assert paper["alignment"]["steps"] == 50000
    assert paper["alignment"]["same_image"] == base["alignment"]["same_image"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temperature", -1, "greater than 0"),
        ("temperature", 0, "greater than 0"),
        ("temperature", math.nan, "a finite number"),
        ("temperature", math.inf, "a finite number"),
        ("temperature", "0.07", "a number"),
        ("temperature", True, "a number"),
        ("temperature", None, "a number"),
        ("lora_rank", "four", "an integer"),
        ("lora_rank", 4.0, "an integer"),
        ("lora_rank", True, "an integer"),
        ("lora_dropout", 1.5, "between 0 and 1"),
        ("stop_gradient_real", 1, "true or false"),
        ("stop_gradient_real", "yes", "true or false"),
        ("lora_targets", [], "not empty"),
        ("lora_targets", "attn", "a list"),
        ("lora_targets", ["attn", 4], "a string"),
        ("align_form", "infonce", "one of"),
        ("patch_dropout", 1.0, "at least 0 and less than 1"),
        ("warmup_steps", -1, "0 or greater"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object, expected: str, base: dict):
    with pytest.raises(ParameterError, match=rf"parameter alignment\.{name} must be {expected}"):
        AlignmentParams(**{**base["alignment"], name: value})


@pytest.mark.parametrize("quality", [0, 96])
def test_a_jpeg_quality_is_one(quality: int, base: dict):
    with pytest.raises(ParameterError, match=rf"diagnostics\.codec_quality must be between 1 and 95. Got {quality}"):
        DiagnosticsParams(**{**base["diagnostics"], "codec_quality": quality})


def test_the_message_says_what_came_and_where_to_set_it(base: dict):
    with pytest.raises(ParameterError) as refused:
        AlignmentParams(**{**base["alignment"], "temperature": -1})
    assert str(refused.value) == (
        "The parameter alignment.temperature must be greater than 0. Got -1 instead. "
        "Set it in conf/*/parameters*.yml or with --params=alignment.temperature=…"
    )


def test_an_unknown_choice_names_the_known_ones(base: dict):
    with pytest.raises(ParameterError, match=r"one of \['softmax', 'sigmoid', 'cosine'\]. Got 'eq2' instead"):
        AlignmentParams(**{**base["alignment"], "align_form": "eq2"})


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"real_path": "proj"}, "real_path"),
        ({"real_path": "lora_proj"}, "real_path"),
        ({"projection_batch_norm": True}, "projection_batch_norm"),
        ({"tune": "none", "projection": "linear"}, "tune"),
        ({"topology": "shared", "negatives": "cache"}, "negatives"),
        ({"align_weight": 0, "moment_weight": 0}, "align_weight"),
        ({"real_text_weight": 1.0}, "real_text_weight"),
        ({"tune_text": True}, "tune_text"),
        ({"moment_reference": "queue"}, "moment_reference"),
        ({"topology": "shared", "real_path": "lora_proj"}, "moment_weight"),
        ({"projection": "linear", "projection_batch_norm": True, "micro_batch_size": 8}, "micro_batch_size"),
        ({"batch_size": 1}, "batch_size"),
        ({"batch_size": 1, "moment_weight": 0}, "batch_size"),
        ({"patience": 3}, "patience"),
        ({"cache_prefix": True, "tune": "full"}, "cache_prefix"),
    ],
)
def test_values_that_contradict_one_another_are_refused(changes: dict, name: str, base: dict):
    with pytest.raises(ParameterError, match=rf"parameter alignment\.{name} must be"):
        AlignmentParams(**{**base["alignment"], **changes})


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_named_run_is_valid(name: str, base: dict):
    groups = {group.GROUP: dict(base[group.GROUP]) for group in GROUPS}
    for key, value in EXPERIMENTS[name].items():
        if key in RESERVED:
            continue
        group, field = key.split(".")
        assert field in groups[group], key
        groups[group][field] = value
    for group in GROUPS:
        assert group(**groups[group.GROUP])


def test_a_misspelt_key_is_refused(base: dict):
    with pytest.raises(TypeError, match="temprature"):
        AlignmentParams(**base["alignment"], temprature=0.07)


def test_null_is_allowed_only_where_the_field_says_so(base: dict):
    assert EvaluationParams(**{**base["evaluation"], "image_count": None}).image_count is None
    with pytest.raises(ParameterError, match=r"run\.encoder must be a string. Got None instead"):
        RunParams(**{**base["run"], "encoder": None})


def test_an_integer_is_a_number(base: dict):
    assert AlignmentParams(**{**base["alignment"], "temperature": 1}).temperature == 1
