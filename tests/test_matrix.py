"""The reproduction as DVC stages: what a change makes stale, and that nothing else is run. The runs are stand-ins."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.slow
NEEDED = ("conf", ".dvc/config", ".dvcignore", ".gitignore", "dvc.yaml", "Makefile", "src")
STAND_IN = """#!{python}
import pathlib, sys
words = sys.argv[1:]
if words != ["code"]:
    with open("calls.txt", "a") as calls:
        calls.write(" ".join(words) + "\\n")
settings = dict(word.split("=", 1) for word in words if "=" in word)
name = settings.get("--pipeline", words[0])
of_set = dict(part.split("=", 1) for part in settings.get("--params", "set=").split(",")).get("set")
corpora = ("mini_world", "mini_flickr", "mini_long_captions")
stages = ("generation", "mini_world", "pairing", "report", "run", "tables")
made = {{"code": [f"code/{{stage}}.txt" for stage in stages],
         "mini_world": [f"01_raw/{{corpus}}/world.json" for corpus in corpora],
         "set": [f"02_intermediate/{{words[-1]}}/manifest"],
         "pairing": [f"03_primary/{{of_set}}/pairs"],
         "report": [f"08_reporting/report/report.{{end}}" for end in ("html", "md")],
         "tables": ["08_reporting/tables/" + end for end in
                    ("SHA256SUMS", "laws.json", "scaling.csv", "tables.md", "tables.parquet", "numbers.json")]}}
if name == "run":
    run_id = f"repro/{{words[1]}}-{{words[3]}}"
    if pathlib.Path(f"fail-{{words[1]}}").exists():
        sys.exit("stopped")
    made["run"] = [f"{{room}}/{{run_id}}/result" for room in ("06_models", "07_model_output", "08_reporting")]
for path in made[name]:
    file = pathlib.Path("data", path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{{}}" if path.endswith("json") else " ".join(words))
"""
DVC = """#!/bin/sh
exec {python} -m dvc "$@"
"""

Repro = Callable[..., list[str]]


def edit(project: Path, name: str, change: Callable[[dict], object]) -> None:
    path = project / "conf/base" / name
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture
def project(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the repository in which the commands of the stages only leave files behind."""
    for name in NEEDED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (repository / name).is_dir() else shutil.copy
        copy(repository / name, tmp_path / name)
    for name, script in {"kedro": STAND_IN, "gmail-kedro": STAND_IN, "dvc": DVC}.items():
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(script.format(python=sys.executable))
        command.chmod(0o755)
    few = {"mini_sd_first": ["clipcap_base"], "mini_sd": ["eq1"], "mini_sd_from_clipcap": ["eq1_tuned", "rank_2_tuned"]}
    edit(tmp_path, "experiments.yml", lambda all_: all_.update(reproduce=dict.fromkeys(all_["reproduce"], []) | few))
    edit(
        tmp_path,
        "sets.yml",
        lambda all_: all_.update(sets={name: all_["sets"][name] for name in ("mini_sd", "mini_flux")}),
    )
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path


@pytest.fixture
def repro(project: Path) -> Repro:
    """Runs ``dvc repro tables`` and returns the stages' commands that it started, shortened."""

    def run(*, fails: bool = False) -> list[str]:
        calls = project / "calls.txt"
        calls.unlink(missing_ok=True)
        command = [sys.executable, "-m", "dvc", "repro", "tables"]
        finished = subprocess.run(command, cwd=project, capture_output=True, text=True)
        assert bool(finished.returncode) == fails, finished.stdout + finished.stderr
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line.removeprefix("run ").replace(" --seed ", "-") for line in lines]

    return run


def test_a_change_runs_its_own_stages_and_no_others(project: Path, repro: Repro):
    first = repro()
    assert first[0] == "--pipeline=mini_world" and first[-1] == "--pipeline=tables"
    made = [call for call in first if "pipeline" not in call and not call.startswith("set make")]
    assert sorted(made) == ["clipcap_base-0", "eq1-0", "eq1_tuned-0", "rank_2_tuned-0"]
    assert made.index("clipcap_base-0") < min(made.index("eq1_tuned-0"), made.index("rank_2_tuned-0"))
    assert repro() == []

    def change_rank(experiments: dict) -> None:
        experiments["runs"]["rank_2_tuned"]["alignment.lora.rank"] = 3

    edit(project, "experiments.yml", change_rank)
    assert "rank_2_tuned-0" in (ran := repro()) and set(ran) <= {"rank_2_tuned-0", "--pipeline=tables"}

    def add_row(experiments: dict) -> None:
        experiments["runs"]["rank_9"] = {"alignment.lora.rank": 9}
        experiments["reproduce"]["mini_sd"].append("rank_9")

    edit(project, "experiments.yml", add_row)
    assert repro() == ["rank_9-0", "--pipeline=tables"]

    def change_base(experiments: dict) -> None:
        experiments["runs"]["clipcap_base"]["downstream.training.steps"] = 7

    edit(project, "experiments.yml", change_base)
    assert repro()[:1] == ["clipcap_base-0"]


def test_more_seeds_run_only_what_is_new(project: Path, repro: Repro):
    repro()
    edit(project, "seeds.yml", lambda all_: all_.update(seeds=[0, 1]))
    again = repro()
    assert sorted(again[:-1]) == ["clipcap_base-1", "eq1-1", "eq1_tuned-1", "rank_2_tuned-1"]
    assert again[-1] == "--pipeline=tables"


def test_an_interrupted_reproduction_goes_on_where_it_was(project: Path, repro: Repro):
    (project / "fail-eq1_tuned").touch()
    before = repro(fails=True)
    (project / "fail-eq1_tuned").unlink()
    after = repro()
    assert "eq1_tuned-0" in after and after[-1] == "--pipeline=tables"
    assert set(before) & set(after) == {"eq1_tuned-0"}


def test_make_repro_runs_everything_once_and_says_what_failed(project: Path):
    def make() -> tuple[int, list[str]]:
        command = ["make", "--old-file=install", "repro", "BIN=bin"]
        finished = subprocess.run(command, cwd=project, capture_output=True, text=True)
        calls = project / "calls.txt"
        lines = calls.read_text().splitlines() if calls.exists() else []
        calls.unlink(missing_ok=True)
        return finished.returncode, lines

    (project / "fail-eq1").touch()
    code, ran = make()
    assert code != 0 and "run rank_2_tuned --seed 0" in ran
    (project / "fail-eq1").unlink()
    assert make() == (0, ["run eq1 --seed 0", "run --pipeline=tables", "run --pipeline=report"])
    assert make() == (0, [])


def test_the_lists_name_runs_that_stand_on_what_their_stage_waits_for(repository: Path):
    experiments = yaml.safe_load((repository / "conf/base/experiments.yml").read_text())
    stages = yaml.safe_load((repository / "dvc.yaml").read_text())["stages"]
    lists = {stage["matrix"]["name"][12:-1]: stage["deps"] for stage in stages.values() if "matrix" in stage}
    assert lists.keys() == experiments["reproduce"].keys()
    for group, names in experiments["reproduce"].items():
        waits = " ".join(lists[group]) + " "
        for name in names:
            row = experiments["runs"][name]
            assert f"data/03_primary/{row.get('set', 'mini_sd')} " in waits, name
            start = f"data/06_models/repro/{row['starts_from']}-" if "starts_from" in row else None
            assert start in waits if start else "data/06_models" not in waits, name
    defined = json.dumps(experiments["reproduce"])
    tables = yaml.safe_load((repository / "conf/base/tables.yml").read_text())["tables"]
    used = {row["run"] for table in tables.values() for row in table["rows"].values()}
    assert all(f'"{name}"' in defined for name in used)
    needed = used | {row["starts_from"] for row in experiments["runs"].values() if "starts_from" in row}
    assert {name for names in experiments["reproduce"].values() for name in names} <= needed
