"""Studies: every variant with every seed is run, and nothing twice."""

import json
import shutil

import pytest
import yaml

from gmail_kedro.commands import main
from gmail_kedro.commands import runs as named_runs
from gmail_kedro.commands.project import Project
from gmail_kedro.commands.studies import study_rows
from gmail_kedro.generated_sets.stored_images import SetDescription, write_description

from ..reporting.test_study_tables import store_run


@pytest.fixture
def project(tmp_path, repository, monkeypatch):
    study = {
        "quick": {
            "pipelines": ["alignment"],
            "baseline": "frozen",
            "seeds": [0, 1],
            "columns": ["probe_auc"],
            "shared": {"set": "small", "alignment.training.steps": 3},
            "variants": {"frozen": {"like": "untuned"}, "ours": {"alignment.training.steps": 5}},
        }
    }
    for profile in ("base", "local"):
        (tmp_path / "conf" / profile).mkdir(parents=True)
    shutil.copy(repository / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/base/study.yml").write_text(yaml.safe_dump(study))
    runs = {"untuned": {"alignment.tune": "none", "pipelines": ["experiment", "transfer"]}}
    (tmp_path / "conf/base/experiments.yml").write_text(yaml.safe_dump({"runs": runs}))
    (tmp_path / "conf/base/globals.yml").write_text(yaml.safe_dump({"set": "usual", "reproduction": "repro"}))
    started: list[dict] = []
    dies: set[str] = set()

    def leave(run_id, *, auc):
        """What the pipelines leave: everything but the receipt."""
        shutil.rmtree(tmp_path / "data/08_reporting" / run_id, ignore_errors=True)
        store_run(tmp_path / "data/08_reporting", run_id, auc=auc)
        (tmp_path / "data/08_reporting" / run_id / "run.json").unlink()

    def run(project, pipelines, parameters):
        if pipelines == named_runs.DATA_PIPELINES:
            assert parameters["set"] == "small"
            (tmp_path / "data/03_primary/small").mkdir(parents=True)
            (tmp_path / "data/03_primary/small/pairs.parquet").touch()
            shards = tmp_path / "data/02_intermediate/small/shards"
            shards.mkdir(parents=True)
            write_description(shards, SetDescription("hash of small", {"generator": "sd"}, 1, 0, {}), "set.json")
            return
        assert pipelines == ["alignment"]  # of a run that a variant is like only the settings count
        started.append(parameters)
        leave(parameters["run_id"], auc=0.6)
        if parameters["run_id"] in dies:
            raise RuntimeError("out of memory")

    monkeypatch.setattr(named_runs, "run_pipelines", run)
    return tmp_path, started, dies


def test_a_study_runs_every_variant_with_every_seed_and_nothing_twice(project, capsys):
    folder, started, dies = project
    dies.add("study/quick/frozen-1")
    assert main(["study", "quick", "--seeds", "1"]) == 1 and len(started) == 1  # all its files are there, but it died
    dies.clear()
    assert main(["study", "quick", "--seeds", "1"]) == 0 and len(started) == 3
    started.clear()
    assert main(["study", "quick"]) == 0
    assert [parameters["run_id"] for parameters in started] == ["study/quick/frozen-0", "study/quick/ours-0"]
    assert started[0] == {
        "run_id": "study/quick/frozen-0",
        "set": "small",
        "run": {"seed": 0},
        "alignment": {"training": {"steps": 3}, "tune": "none"},
    }
    assert started[1]["alignment"] == {"training": {"steps": 5}} and started[1]["run"] == {"seed": 0}
    assert "| ours | 2 |" in capsys.readouterr().out
    assert (folder / "data/08_reporting/study/quick/table.csv").is_file()
    assert (folder / "data/03_primary/small/pairs.parquet").is_file()  # the generated set is made first
    receipt = json.loads((folder / "data/08_reporting/study/quick/frozen-0/run.json").read_text())
    assert (receipt["set"], receipt["generated_set"], receipt["seed"]) == ("small", "hash of small", 0)
    assert main(["study", "quick"]) == 0 and len(started) == 2


def test_a_variant_whose_row_has_changed_is_run_again(project):
    folder, started, _ = project
    assert main(["study", "quick", "--seeds", "0"]) == 0 and len(started) == 2
    change_variants(folder, ours={"alignment.training.steps": 6})
    assert main(["study", "quick", "--seeds", "0"]) == 0
    assert [parameters["run_id"] for parameters in started[2:]] == ["study/quick/ours-0"]


def test_a_variant_like_no_run_is_refused_before_anything_is_run(project, caplog):
    folder, started, _ = project
    change_variants(folder, last={"like": "untunde"})
    assert main(["study", "quick"]) == 1 and started == []
    assert "quick.variants.last.like: there is no 'untunde'. Did you mean untuned?" in caplog.text
    assert not (folder / "data/03_primary").exists()


def change_variants(folder, **variants):
    path = folder / "conf/base/study.yml"
    studies = yaml.safe_load(path.read_text())
    studies["quick"]["variants"] |= variants
    path.write_text(yaml.safe_dump(studies))


def test_an_unknown_study_names_the_known_ones(project, caplog):
    assert main(["study", "quik"]) == 1
    assert "Profile base, study.yml: there is no 'quik'. Did you mean quick?" in caplog.text


def test_rows_of_the_studies_here_are_whole(repository):
    here = Project(repository)
    for name, study in here.define("study").items():
        rows = study_rows(here, name)
        assert study["baseline"] in rows
        assert all(row["pipelines"] == study["pipelines"] and "starts_from" not in row for row in rows.values()), name
    assert study_rows(here, "final")["frozen"]["alignment.tune"] == "none"  # as experiments.yml says


def test_a_study_can_measure_another_ones_models(project):
    folder, started, _ = project
    path = folder / "conf/base/study.yml"
    studies = yaml.safe_load(path.read_text())
    studies["again"] = studies["quick"] | {"models_of": "quick"}
    path.write_text(yaml.safe_dump(studies))
    assert main(["study", "again", "--seeds", "0"]) == 1  # nothing was trained yet
    for variant in ("frozen", "ours"):
        model = folder / f"data/06_models/study/quick/{variant}-0/adapter"
        model.mkdir(parents=True)
        (model / "student.json").write_text(variant)
    assert main(["study", "again", "--seeds", "0"]) == 0
    taken = folder / "data/06_models/study/again/ours-0/adapter/student.json"
    assert taken.read_text() == "ours"
    assert [parameters["run_id"] for parameters in started] == ["study/again/frozen-0", "study/again/ours-0"]
