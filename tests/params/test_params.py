"""Parameter groups: what the configuration says is accepted, and what is wrong is refused by name."""

import math
from pathlib import Path

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from pydantic import ValidationError

from gmail_kedro.configuration.parameter_groups import GROUPS, SETTINGS, is_text, may_be_null
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.base import ParameterError, Parameters
from gmail_kedro.params.diagnostics import DiagnosticsParams
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = yaml.safe_load((ROOT / "conf/base/experiments.yml").read_text())["runs"]
RESERVED = ("pipelines", "set", "starts_from")  # what a row says beside parameters
ENVIRONMENTS = sorted(path.name for path in (ROOT / "conf").iterdir() if path.is_dir())


def load(environment: str) -> dict:
    return OmegaConfigLoader(str(ROOT / "conf"), env=environment, **CONFIG_LOADER_ARGS)["parameters"]


@pytest.fixture(scope="module")
def base() -> dict:
    return load("pretraining")  # the base with the one group that no other profile has


@pytest.fixture(scope="module")
def ours(base: dict) -> AlignmentParams:
    return AlignmentParams(**base["alignment"])


def names_in(content: dict, group: str) -> set[str]:
    names = set()
    for key, value in content.items():
        names |= names_in(value, f"{group}.{key}") if isinstance(value, dict) else {f"{group}.{key}"}
    return names


def test_every_group_is_registered():
    assert set(Parameters.__subclasses__()) == set(GROUPS.values())


@pytest.mark.parametrize("group", GROUPS)
def test_the_profiles_show_every_setting(group: str):
    shown = load("pretraining" if group == "pretraining" else "base")
    assert names_in(shown[group], group) == {name for name in SETTINGS if name.startswith(f"{group}.")}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("group", GROUPS)
def test_every_profile_builds(group: str, environment: str):
    values = load("pretraining" if group == "pretraining" else environment)[group]
    built = GROUPS[group].model_validate(values)  # what Kedro calls
    assert built.model_dump() == values


def test_the_defaults_are_the_papers_method():
    paper = AlignmentParams(**load("paper")["alignment"])
    assert AlignmentParams() == paper
    assert (paper.lora.rank, paper.temperature, paper.training.batch_size) == (4, 0.07, 256)


def test_a_profile_keeps_what_it_does_not_mention(base: dict):
    paper = load("paper")
    assert paper["alignment"]["training"]["steps"] == 50000
    assert paper["alignment"]["same_image"] == base["alignment"]["same_image"]
    assert paper["alignment"]["lora"]["alpha"] == base["alignment"]["lora"]["alpha"]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("temperature", -1, "greater than 0"),
        ("temperature", 0, "greater than 0"),
        ("temperature", math.nan, "a finite number"),
        ("temperature", math.inf, "a finite number"),
        ("temperature", "0.07", "a valid number"),
        ("temperature", True, "a valid number"),
        ("temperature", None, "a valid number"),
        ("lora.rank", "four", "a valid integer"),
        ("lora.rank", "4", "a valid integer"),
        ("lora.rank", 4.0, "a valid integer"),
        ("lora.rank", True, "a valid integer"),
        ("lora.dropout", 1.5, "less than 1"),
        ("stop_gradient_real", 1, "a valid boolean"),
        ("stop_gradient_real", "yes", "a valid boolean"),
        ("lora.targets", [], "not empty"),
        ("lora.targets", "attn", "a valid list"),
        ("lora.targets", ["attn", 4], "a valid string"),
        ("align_form", "infonce", "'softmax', 'sigmoid' or 'cosine'"),
        ("patch_dropout", 1.0, "less than 1"),
        ("training.warmup_steps", -1, "greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: object, expected: str, ours: AlignmentParams):
    told = rf"^The parameter alignment\.{name} must be {expected}\. Got .* instead\. .*--params=alignment\.{name}=…$"
    with pytest.raises(ParameterError, match=told):
        ours.replace(**{name: value})
    with pytest.raises(ParameterError, match=told):
        AlignmentParams.check_value(name, value)


@pytest.mark.parametrize("quality", [0, 96])
def test_a_jpeg_quality_is_one(quality: int, base: dict):
    with pytest.raises(ParameterError, match=rf"diagnostics\.codec_quality must be .* to (1|95). Got {quality}"):
        DiagnosticsParams(**{**base["diagnostics"], "codec_quality": quality})


def test_the_message_says_what_came_and_where_to_set_it(base: dict):
    told = (
        "The parameter alignment.temperature must be greater than 0. Got -1 instead. "
        "Set it in conf/*/parameters*.yml or with --params=alignment.temperature=…"
    )
    for build in (lambda values: AlignmentParams(**values), AlignmentParams.model_validate):
        with pytest.raises(ParameterError) as refused:
            build({**base["alignment"], "temperature": -1})
        assert str(refused.value) == told


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
        (
            {"projection": "linear", "projection_batch_norm": True, "training.micro_batch_size": 8},
            "training.micro_batch_size",
        ),
        ({"training.batch_size": 1}, "training.batch_size"),
        ({"training.batch_size": 1, "moment_weight": 0}, "training.batch_size"),
        ({"training.patience": 3}, "training.patience"),
        ({"cache_prefix": True, "tune": "full"}, "cache_prefix"),
    ],
)
def test_values_that_contradict_one_another_are_refused(changes: dict, name: str, ours: AlignmentParams):
    with pytest.raises(ParameterError, match=rf"^The parameter alignment\.{name} must be"):
        ours.replace(**changes)


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_every_named_run_is_valid(name: str, base: dict):
    changes: dict[str, dict] = {group: {} for group in GROUPS}
    for key, value in EXPERIMENTS[name].items():
        if key not in RESERVED:
            group, _, setting = key.partition(".")
            changes[group][setting] = value
    for group, kind in GROUPS.items():
        built = kind(**base[group]).replace(**changes[group])
        assert {
            f"{group}.{setting}": value for setting, value in changes[group].items()
        }.items() <= built.flat().items()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"temprature": 0.07}, "there is no 'alignment.temprature'. Did you mean alignment.temperature?"),
        ({"lora": {"rnak": 2}}, "there is no 'alignment.lora.rnak'. Did you mean alignment.lora.rank?"),
        ({"lora_rank": 2}, "there is no 'alignment.lora_rank'. Did you mean alignment.lora.rank?"),
        ({"steps": 2}, "there is no 'alignment.steps'. Did you mean alignment.training.steps?"),
    ],
)
def test_a_misspelt_key_is_refused_with_the_close_one(changes: dict, told: str):
    with pytest.raises(ParameterError) as refused:
        AlignmentParams(**changes)
    assert str(refused.value) == told


def test_a_missing_key_is_refused(base: dict):
    with pytest.raises(ParameterError, match="The parameter downstream.training.steps must be given"):
        GROUPS["downstream"](**base["downstream"] | {"training": {"batch_size": 3}})


def test_null_is_allowed_only_where_the_field_says_so(base: dict):
    assert EvaluationParams(**{**base["evaluation"], "image_count": None}).image_count is None
    with pytest.raises(ParameterError, match=r"run\.encoder must be a valid string. Got None instead"):
        RunParams(**{**base["run"], "encoder": None})


def test_an_integer_is_a_number(ours: AlignmentParams):
    assert ours.replace(temperature=1).temperature == 1


def test_a_group_does_not_change(ours: AlignmentParams):
    with pytest.raises(ValidationError, match="frozen"):
        ours.temperature = 1.0
    with pytest.raises(ValidationError, match="frozen"):
        ours.lora.rank = 1
    assert ours.replace(**{"lora.rank": 9}).lora.rank == 9 and ours.lora.rank == 4


def test_values_are_listed_by_their_whole_names(ours: AlignmentParams):
    flat = ours.flat()
    assert flat["alignment.lora.rank"] == 4 and flat["alignment.training.steps"] == 60
    assert flat.keys() == {name for name in SETTINGS if name.startswith("alignment.")} and str(ours) == "alignment"


def test_what_is_text_is_known_by_name():
    texts = ("run.encoder", "run.engine", "generation.scheduler", "evaluation.retrieval_protocol")
    assert all(map(is_text, texts))
    assert not any(map(is_text, ("alignment.lora.targets", "run.seed", "evaluation.class_sets", "generation.guidance")))
    assert may_be_null("generation.scheduler") and not may_be_null("run.encoder")
