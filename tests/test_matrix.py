"""The reproduction as DVC stages: what a change makes stale, and that nothing else is run. The runs are stand-ins."""

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
corpora = ("mini_world", "mini_flickr", "mini_long_captions", "mini_scienceqa", "mini_mmmu")
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
    path = project / name
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


def runs_of(stages: dict) -> dict[str, list[str]]:
    return stages["vars"][-1]["reproduce"]


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
    edit(tmp_path, "dvc.yaml", lambda all_: runs_of(all_).update(dict.fromkeys(runs_of(all_), []) | few))
    edit(
        tmp_path,
        "conf/base/sets.yml",
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

    edit(project, "conf/base/experiments.yml", change_rank)
    assert "rank_2_tuned-0" in (ran := repro()) and set(ran) <= {"rank_2_tuned-0", "--pipeline=tables"}

    def add_row(experiments: dict) -> None:
        experiments["runs"]["rank_9"] = {"alignment.lora.rank": 9}

    edit(project, "conf/base/experiments.yml", add_row)
    edit(project, "dvc.yaml", lambda all_: runs_of(all_)["mini_sd"].append("rank_9"))
    assert repro() == ["rank_9-0", "--pipeline=tables"]

    def change_base(experiments: dict) -> None:
        experiments["runs"]["clipcap_base"]["downstream.training.steps"] = 7

    edit(project, "conf/base/experiments.yml", change_base)
    assert repro()[:1] == ["clipcap_base-0"]


def test_more_seeds_run_only_what_is_new(project: Path, repro: Repro):
    repro()
    edit(project, "conf/base/seeds.yml", lambda all_: all_.update(seeds=[0, 1]))
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


def test_the_stages_are_the_runs_of_the_tables_by_what_they_wait_for(repository: Path):
    """Rows are declared once, in experiments.yml; what dvc.yaml says of them is what follows from there."""
    base = {
        name: yaml.safe_load((repository / f"conf/base/{name}.yml").read_text()) for name in ("experiments", "tables")
    }
    content = yaml.safe_load((repository / "dvc.yaml").read_text())
    runs = base["experiments"]["runs"]
    assert not [name for name, row in runs.items() if "like" in row]  # DVC sees a row, and not what it is like
    used = {row["run"] for table in base["tables"]["tables"].values() for row in table["rows"].values()}
    bases = {runs[name]["starts_from"] for name in used if "starts_from" in runs[name]}
    expected: dict[str, set[str]] = {}
    for name in used | bases:
        expected.setdefault(waits_for(runs[name], is_base=name in bases), set()).add(name)
    stages = [stage for stage in content["stages"].values() if "matrix" in stage]
    found = {stage["matrix"]["name"].removeprefix("${reproduce.")[:-1]: stage["deps"] for stage in stages}
    assert {group: set(names) for group, names in runs_of(content).items()} == expected
    assert found.keys() == expected.keys()
    for group, deps in found.items():
        first = next(iter(expected[group]))
        assert f"data/03_primary/{runs[first].get('set', 'mini_sd')}" in deps, group
        start = runs[first].get("starts_from")
        starts = [dep for dep in deps if dep.startswith("data/06_models")]
        assert starts == ([f"data/06_models/repro/{start}-${{item.seed}}"] if start else []), group


def waits_for(row: dict, *, is_base: bool) -> str:
    """Returns the list of dvc.yaml that a run belongs into: its set, and what it goes on from."""
    start = row.get("starts_from", "").removesuffix("_base")
    return row.get("set", "mini_sd") + ("_first" if is_base else "") + (f"_from_{start}" if start else "")
