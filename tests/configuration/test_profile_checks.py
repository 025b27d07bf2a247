"""A profile and a command line are checked whole before anything runs: names, keys and values, with file and key."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from gmail_kedro.commands import main
from gmail_kedro.configuration.loader import LOADER_ARGUMENTS, ProfileLoader
from gmail_kedro.configuration.parameter_groups import GROUPS
from gmail_kedro.configuration.profile_checks import check_profile
from gmail_kedro.params.base import ParameterError

ROOT = Path(__file__).resolve().parents[2]
CONF = ROOT / "conf"
NO_NAMES = ["../../../x", "eq1/adapter", "", "/x", "a\0b", ".", "..", ".x", "-x", "a b", "a,b", "a\\b", "x" * 101]
NO_NAMES += ["repro/", "x/", "repro//x", "repro/../x", "repro/eq1-0/adapter", "study/final"]


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return shutil.copytree(CONF, tmp_path / "conf")


def edit(conf: Path, file: str, **changes: Any) -> None:
    content = yaml.safe_load((conf / file).read_text()) or {}
    for keys, value in changes.items():
        *groups, last = keys.split("__")
        place = content
        for group in groups:
            place = place[group]
        place[last] = value
    (conf / file).write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.parametrize("profile", sorted(path.name for path in CONF.iterdir() if path.is_dir()))
def test_the_profiles_are_right(profile: str):
    check_profile(CONF, profile, {"run_id": "repro/eq1-0", "set": "1.0", "baseline": "study/final/frozen-3"})


@pytest.mark.parametrize("name", ["run_id", "set", "baseline"])
@pytest.mark.parametrize("value", NO_NAMES)
def test_what_is_no_name_is_refused(name: str, value: str):
    with pytest.raises(ParameterError, match=f"--params: {name} must be a name"):
        check_profile(CONF, "base", {name: value})


@pytest.mark.parametrize("name", ["run_id", "set", "baseline"])
@pytest.mark.parametrize("value", [7, 20261127, 750, True, float("inf"), None, ["a"]])
def test_a_name_that_was_read_as_something_else_is_refused_with_what_was_read(name: str, value: object):
    with pytest.raises(ParameterError, match="must be text. It was read as .* put what is meant in quotes") as refused:
        check_profile(CONF, "base", {name: value})
    assert repr(value) in str(refused.value)


@pytest.mark.parametrize("taken", ["repro", "tables", "report", "study", "sets", "pretraining"])
def test_a_run_does_not_take_the_folder_of_something_else(taken: str):
    with pytest.raises(ParameterError, match=f"must not be '{taken}'"):
        check_profile(CONF, "base", {"run_id": taken})


@pytest.mark.reliability(27)
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"run_idd": "x"}, "no 'run_idd'. Did you mean run_id"),
        ({"runid": "x"}, "no 'runid'. Did you mean run_id"),
        ({"pairng": {"val_fraction": 0.5}}, "no 'pairng'. Did you mean pairing"),
        ({"alignmnt": {"steps": 3}}, "no 'alignmnt'. Did you mean alignment"),
        (
            {"alignment": {"training": {"stepz": 3}}},
            "stepz'. Did you mean alignment.training.steps?",
        ),
        ({"alignment": {"steps": 3}}, "no 'alignment.steps'. Did you mean alignment.training.steps?"),
        ({"steps": 3}, "Did you mean alignment.training.steps or downstream.training.steps"),
        ({"generation.steps": 3}, "no 'generation.steps'"),
        ({"alignment": 3}, "alignment must be a mapping"),
        ({"alignment": {"training": 3}}, "alignment.training must be a mapping"),
        (
            {"alignment": {"training": {"steps": "sixty"}}},
            "steps must be a valid integer. Got 'sixty'",
        ),
        ({"alignment": {"lora": {"rank": -1}}}, "alignment.lora.rank must be greater than 0"),
        ({"alignment": {"temperature": float("nan")}}, "alignment.temperature must be a finite number"),
        ({"run": {"_target_": "os.system"}}, "no 'run._target_'"),
        ({"corpus": "coco_karpathy"}, "no 'corpus'"),  # a setting of the profile paper
    ],
)
def test_a_command_line_that_names_what_is_not_there_is_refused(given: dict[str, Any], told: str):
    with pytest.raises(ParameterError, match=told):
        check_profile(CONF, "base", given)
    check_profile(CONF, "paper", {"corpus": "coco_karpathy"})


@pytest.mark.reliability(27)
@pytest.mark.parametrize(
    ("file", "changes", "told"),
    [
        ("base/parameters_alignment.yml", {"alignmnt": {"steps": 3}}, "there is no 'alignmnt'. Did you mean alignment"),
        ("base/parameters_alignment.yml", {"alignment__lora__rnak": 3}, "no 'alignment.lora.rnak'. Did you mean"),
        ("base/parameters_alignment.yml", {"alignment__training__steps": "3"}, "must be a valid integer. Got '3'"),
        ("base/parameters_alignment.yml", {"alignment__temperature": float("nan")}, "must be a finite number"),
        ("base/parameters_generation.yml", {"generation__steps": -1}, "must be greater than 0. Got -1"),
        ("paper/parameters.yml", {"run_id": "mine"}, "run_id must be said in globals.yml"),
        ("own_corpus/globals.yml", {"run_id": 7}, "run_id must be text. It was read as 7"),
        ("own_corpus/globals.yml", {"set": "../x"}, "set must be a name"),
        ("own_corpus/globals.yml", {"tables": "/x"}, "tables must be a name"),
        ("own_corpus/globals.yml", {"runid": "x"}, "there is no 'runid'. Did you mean run_id"),
        ("base/experiments.yml", {"runs__eq1": {"lik": "gmail"}}, "runs.eq1: there is no 'lik'. Did you mean like"),
        ("base/experiments.yml", {"runs__eq1": {"aligment.lora_rank": 2}}, "Did you mean alignment.lora.rank"),
        ("base/experiments.yml", {"runs__eq1": {"run_id": "x"}}, "runs.eq1: there is no 'run_id'"),
        ("base/experiments.yml", {"runs__eq1": {"alignment.lora.rank": "two"}}, "runs.eq1: .*must be a valid integer"),
        ("base/experiments.yml", {"runs__eq1": {"set": 7}}, "runs.eq1: set must be text. It was read as 7"),
        ("base/experiments.yml", {"runs__eq1": {"starts_from": "clipcap_bse"}}, "Did you mean clipcap_base"),
        ("base/experiments.yml", {"demo": ["eq2"]}, "demo: there is no 'eq2'. Did you mean eq1"),
        ("base/experiments.yml", {"rusn": {"x": {}}}, "rusn: there is no 'x'"),
        ("paper/experiments.yml", {"runs": {"v1.5": {}}}, "the name of a run must be a name without dots, since DVC"),
        ("paper/experiments.yml", {"runs": {7: {}}}, "the name of a run must be text. It was read as 7"),
        ("base/sets.yml", {"sets": {"a/b": {}}}, "the name of a set must be a name"),
        ("base/sets.yml", {"sets": {"mini_sd": {"parms": "x=1"}}}, "mini_sd: there is no 'parms'. Did you mean params"),
        ("base/sets.yml", {"sets": {"mini_sd": {"params": "generation.stepz=1"}}}, "mini_sd.params: .*stepz"),
        ("base/sets.yml", {"sets": {"mini_sd": {"params": "aligment.lora.rank=2"}}}, "mean alignment.lora.rank"),
        ("base/sets.yml", {"sets": {"mini_sd": {"params": {"generation.steps": "x"}}}}, "must be a valid integer"),
        ("base/study.yml", {"screen__seeds": ["a"]}, "screen.seeds must be a list of integers"),
        ("base/study.yml", {"screen__variant": {}}, "screen: there is no 'variant'. Did you mean variants"),
        ("base/study.yml", {"screen__baseline": "frozn"}, "screen.baseline: there is no 'frozn'. Did you mean frozen"),
        ("base/study.yml", {"screen__variants__eq1": {"like": "eq11"}}, "like: there is no 'eq11'. Did you mean eq1"),
        ("base/study.yml", {"screen__shared__set": "../x"}, "screen.shared: set must be a name"),
        ("base/study.yml", {"screen__variants__eq1": {"aligment.tune": "none"}}, "variants.eq1: .*alignment.tune"),
        ("base/seeds.yml", {"seeds": [0, True]}, "seeds must be a list of integers"),
    ],
)  # fmt: skip
def test_a_file_that_names_what_is_not_there_is_refused_with_file_and_key(conf, file, changes, told):
    edit(conf, file, **changes)
    profile = "base" if file.startswith("base") else file.split("/")[0]
    with pytest.raises(ParameterError, match=f"^conf/{file}: .*{told}"):
        ProfileLoader(str(conf), env=profile, **LOADER_ARGUMENTS)


def test_both_commands_refuse_before_anything_runs(conf: Path, monkeypatch, caplog):
    edit(conf, "base/experiments.yml", runs__eq1={"lik": "gmail"})
    shutil.copy(ROOT / "pyproject.toml", conf.parent)
    monkeypatch.chdir(conf.parent)
    assert main(["run", "gmail"]) == 1
    assert "conf/base/experiments.yml: runs.eq1: there is no 'lik'" in caplog.text
    assert not (conf.parent / "data").exists()
    assert (
        "CONFIG_LOADER_CLASS = ProfileLoader\n" in (ROOT / "src/gmail_kedro/settings.py").read_text()
    )  # for kedro run


def test_every_group_of_the_base_profile_is_declared():
    paths = [*CONF.glob("base/parameters*.yml"), CONF / "pretraining/parameters.yml"]
    written = {key for path in paths for key in yaml.safe_load(path.read_text())}
    assert written == {*GROUPS, "run_id", "baseline"}


@pytest.mark.parametrize("place", ["parameters_mine.yaml", "mine/parameters.yml"])
def test_files_are_checked_wherever_kedro_finds_them(conf: Path, place: str):
    (conf / "local/mine").mkdir()
    (conf / "local" / place).write_text("alignmnt: {steps: 3}")
    with pytest.raises(ParameterError, match=f"^conf/local/{place}: there is no 'alignmnt'"):
        ProfileLoader(str(conf), **LOADER_ARGUMENTS)
