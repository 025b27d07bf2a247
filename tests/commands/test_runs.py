"""`gmail-kedro run`: what one cell of the reproduction runs, and what says that it is whole."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from gmail_kedro.commands import main, runs
from gmail_kedro.commands.project import Project
from gmail_kedro.generated_sets.stored_images import SetDescription, write_description

ROWS = {
    "base": {"alignment.tune": "none"},
    "tuned": {"alignment.lora.rank": 2, "starts_from": "base", "set": "small", "pipelines": ["experiment", "transfer"]},
}
LARGE = {
    "base": {"run.encoder": "clip_vit_b_32"},
    "other": {"like": "tuned", "alignment.lora.rank": 4, "set": "big"},
    "tuned": None,
    "again": {"like": "base", "run.encoder": "clip_vit_l_14"},
}
GLOBALS = {"base": {"set": "usual", "reproduction": "repro"}, "large": {"set": "big", "reproduction": "repro_large"}}


def write(root: Path, profile: str, experiments: dict) -> None:
    folder = root / "conf" / profile
    folder.mkdir(parents=True)
    (folder / "experiments.yml").write_text(yaml.safe_dump({"runs": experiments}, sort_keys=False))
    (folder / "globals.yml").write_text(yaml.safe_dump(GLOBALS[profile]))


@pytest.fixture
def project(tmp_path, repository, monkeypatch):
    """A project whose runs only leave their folders, and the list of what was started."""
    write(tmp_path, "base", ROWS)
    write(tmp_path, "large", LARGE)
    (tmp_path / "conf/local").mkdir()
    shutil.copy(repository / "pyproject.toml", tmp_path)
    for name in ("usual", "small", "big"):
        facts = tmp_path / "data/02_intermediate" / name / "shards/set.json"
        facts.parent.mkdir(parents=True)
        made = SetDescription(f"hash of {name}", {"generator": "sd"}, 1, 0, {})
        write_description(facts.parent, made, facts.name)
    started = []

    def run(project, pipelines, parameters):
        started.append((pipelines, parameters))
        for room in ("06_models", "08_reporting"):
            (tmp_path / "data" / room / parameters["run_id"] / "captioner").mkdir(parents=True, exist_ok=True)
        if "fails" in (tmp_path / "mood").read_text():
            raise RuntimeError("out of memory")

    (tmp_path / "mood").write_text("works")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "run_pipelines", run)
    return tmp_path, started


def test_a_cell_runs_its_row_with_its_seed_and_says_what_it_was(project):
    folder, started = project
    assert main(["run", "base", "--seed", "3"]) == 0
    expected = {"run_id": "repro/base-3", "run": {"seed": 3}, "alignment": {"tune": "none"}}
    assert started == [(["experiment"], expected)]
    receipt = json.loads((folder / "data/08_reporting/repro/base-3/run.json").read_text())
    assert receipt["run_id"] == "repro/base-3" and receipt["row"] == ROWS["base"]
    assert (receipt["set"], receipt["generated_set"], receipt["generator"]) == ("usual", "hash of usual", "sd")


def test_a_profile_changes_single_keys_of_a_run_and_keeps_its_results_apart(project):
    folder, started = project
    assert main(["run", "base"]) == 0 and main(["run", "base", "--env", "large"]) == 0
    first, second = (parameters for _, parameters in started)
    assert (first["run_id"], second["run_id"]) == ("repro/base-0", "repro_large/base-0")
    assert second["alignment"] == first["alignment"] and second["run"]["encoder"] == "clip_vit_b_32"
    receipt = json.loads((folder / "data/08_reporting/repro_large/base-0/run.json").read_text())
    assert receipt["set"] == "big" and receipt["env"] == "large"


def test_a_run_is_like_another_but_for_what_it_says(project):
    folder, _ = project
    large = Project(folder, "large")
    assert runs.find_run(large, "again") == {"alignment.tune": "none", "run.encoder": "clip_vit_l_14"}
    with pytest.raises(ValueError, match=r"large, experiments.yml: there is no 'tuned'. There are: again, base, other"):
        runs.find_run(large, "other")  # what it is like was taken away


def test_a_cell_goes_on_from_the_captioner_of_the_same_seed(project, caplog):
    folder, started = project
    assert main(["run", "tuned", "--seed", "1"]) == 1
    assert "First: gmail-kedro run base --seed 1" in caplog.text and started == []
    main(["run", "base", "--seed", "1"])
    assert main(["run", "tuned", "--seed", "1"]) == 0
    pipelines, parameters = started[-1]
    assert pipelines == ["experiment", "transfer"] and parameters["set"] == "small"
    assert parameters["downstream"] == {"start_from": str(folder / "data/06_models/repro/base-1/captioner")}
    assert parameters.keys() == {"run_id", "run", "alignment", "set", "downstream"}


def test_a_cell_that_fails_is_not_whole(project):
    folder, _ = project
    receipt = folder / "data/08_reporting/repro/base-0/run.json"
    assert main(["run", "base"]) == 0 and receipt.is_file()
    (folder / "mood").write_text("fails")
    assert main(["run", "base"]) == 1 and not receipt.exists()


def test_a_cell_is_run_as_long_as_its_row_is_the_same(project):
    folder, _ = project

    def is_done(run_id: str) -> bool:
        here = Project(folder)
        return runs.is_done(here, run_id, runs.find_run(here, "base"))

    assert not is_done("repro/base-0")
    main(["run", "base"])
    assert is_done("repro/base-0") and not is_done("repro/base-1")
    changed = ROWS | {"base": {"alignment.tune": "full"}}
    (folder / "conf/base/experiments.yml").write_text(yaml.safe_dump({"runs": changed}))
    assert not is_done("repro/base-0")


def test_runs_that_are_compared_go_on_from_each_other_by_name(project, caplog):
    folder, started = project
    assert main(["compare", "tuned"]) == 1 and "First: gmail-kedro compare base" in caplog.text
    assert main(["compare", "base", "tuned"]) == 0
    assert started[-1][1]["downstream"]["start_from"] == str(folder / "data/06_models/base/captioner")


def test_an_unknown_run_names_the_known_ones(project, caplog):
    assert main(["run", "nobody"]) == 1 and main(["compare", "nobody"]) == 1
    assert caplog.text.count("no 'nobody'. There are: base, tuned.") == 2
    assert main(["run", "tune"]) == 1 and "Did you mean tuned?" in caplog.text
