"""`gmail-kedro run`: what one cell of the reproduction runs, and what says that it is whole."""

import json

import pytest
import yaml

from gmail_kedro import commands

ROWS = {
    "base": {"alignment.tune": "none"},
    "tuned": {"alignment.lora_rank": 2, "starts_from": "base", "set": "small", "pipelines": ["experiment", "transfer"]},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project whose runs only leave their folders, and the list of what was started."""
    (tmp_path / "conf/base").mkdir(parents=True)
    (tmp_path / "conf/base/experiments.yml").write_text(yaml.safe_dump({"runs": ROWS}))
    (tmp_path / "conf/base/globals.yml").write_text(yaml.safe_dump({"set": "usual"}))
    for name in ("usual", "small"):
        facts = tmp_path / "data/02_intermediate" / name / "shards/set.json"
        facts.parent.mkdir(parents=True)
        facts.write_text(json.dumps({"fingerprint": f"hash of {name}", "settings": {"generator": "sd"}}))
    started = []

    def run(pipelines, parameters, env):
        started.append((pipelines, parameters))
        for room in ("06_models", "08_reporting"):
            (tmp_path / "data" / room / parameters["run_id"] / "captioner").mkdir(parents=True, exist_ok=True)
        if "fails" in (tmp_path / "mood").read_text():
            raise RuntimeError("out of memory")

    (tmp_path / "mood").write_text("works")
    monkeypatch.setattr(commands, "_project_root", lambda: tmp_path)
    monkeypatch.setattr(commands, "run_pipelines", run)
    return tmp_path, started


def test_a_cell_runs_its_row_with_its_seed_and_says_what_it_was(project):
    folder, started = project
    assert commands.main(["run", "base", "--seed", "3"]) == 0
    expected = {"run_id": "repro/base-3", "run": {"seed": 3}, "alignment": {"tune": "none"}}
    assert started == [(["experiment"], expected)]
    receipt = json.loads((folder / "data/08_reporting/repro/base-3/run.json").read_text())
    assert receipt["run_id"] == "repro/base-3" and receipt["row"] == ROWS["base"]
    assert (receipt["set"], receipt["generated_set"], receipt["generator"]) == ("usual", "hash of usual", "sd")


def test_a_cell_goes_on_from_the_captioner_of_the_same_seed(project, caplog):
    folder, started = project
    assert commands.main(["run", "tuned", "--seed", "1"]) == 1
    assert "First: gmail-kedro run base --seed 1" in caplog.text and started == []
    commands.main(["run", "base", "--seed", "1"])
    assert commands.main(["run", "tuned", "--seed", "1"]) == 0
    pipelines, parameters = started[-1]
    assert pipelines == ["experiment", "transfer"] and parameters["set"] == "small"
    assert parameters["downstream"] == {"start_from": str(folder / "data/06_models/repro/base-1/captioner")}
    assert parameters.keys() == {"run_id", "run", "alignment", "set", "downstream"}


def test_a_cell_that_fails_is_not_whole(project):
    folder, _ = project
    receipt = folder / "data/08_reporting/repro/base-0/run.json"
    assert commands.main(["run", "base"]) == 0 and receipt.is_file()
    (folder / "mood").write_text("fails")
    assert commands.main(["run", "base"]) == 1 and not receipt.exists()


def test_runs_that_are_compared_go_on_from_each_other_by_name(project, caplog):
    folder, started = project
    assert commands.main(["compare", "tuned"]) == 1 and "First: gmail-kedro compare base" in caplog.text
    assert commands.main(["compare", "base", "tuned"]) == 0
    assert started[-1][1]["downstream"]["start_from"] == str(folder / "data/06_models/base/captioner")


def test_an_unknown_run_names_the_known_ones(project, caplog):
    assert commands.main(["run", "nobody"]) == 1 and commands.main(["compare", "nobody"]) == 1
    assert caplog.text.count("Known runs: ['base', 'tuned']") == 2
