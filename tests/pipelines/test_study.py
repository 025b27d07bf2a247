"""Studies: every variant with every seed is run, and nothing twice."""

import shutil

import pytest
import yaml

from gmail_kedro.commands import main
from gmail_kedro.commands import runs as named_runs

from ..reporting.test_study_tables import store_run


@pytest.fixture
def project(tmp_path, repository, monkeypatch):
    study = {
        "quick": {
            "pipelines": ["alignment"],
            "done_when": "gap.json",
            "baseline": "frozen",
            "seeds": [0, 1],
            "columns": ["probe_auc"],
            "shared": {"set": "small", "alignment.training.steps": 3},
            "variants": {"frozen": {"alignment.tune": "none"}, "ours": {"alignment.training.steps": 5}},
        }
    }
    for profile in ("base", "local"):
        (tmp_path / "conf" / profile).mkdir(parents=True)
    shutil.copy(repository / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf/base/study.yml").write_text(yaml.safe_dump(study))
    started = []

    def run(project, pipelines, parameters):
        if pipelines == named_runs.DATA_PIPELINES:
            assert parameters["set"] == "small"
            (tmp_path / "data/03_primary/small").mkdir(parents=True)
            (tmp_path / "data/03_primary/small/pairs.parquet").touch()
            return
        started.append(parameters)
        store_run(tmp_path / "data/08_reporting", parameters["run_id"], auc=0.6)

    monkeypatch.setattr(named_runs, "run_pipelines", run)
    return tmp_path, started


def test_a_study_runs_every_variant_with_every_seed_and_nothing_twice(project, capsys):
    folder, started = project
    store_run(folder / "data/08_reporting/study/quick", "frozen-1", auc=0.8)
    assert main(["study", "quick"]) == 0
    assert [parameters["run_id"] for parameters in started] == [
        "study/quick/frozen-0",
        "study/quick/ours-0",
        "study/quick/ours-1",
    ]
    assert started[0] == {
        "run_id": "study/quick/frozen-0",
        "set": "small",
        "run": {"seed": 0},
        "alignment": {"training": {"steps": 3}, "tune": "none"},
    }
    assert started[2]["alignment"] == {"training": {"steps": 5}} and started[2]["run"] == {"seed": 1}
    assert "| ours | 2 |" in capsys.readouterr().out
    assert (folder / "data/08_reporting/study/quick/table.csv").is_file()
    assert (folder / "data/03_primary/small/pairs.parquet").is_file()  # the generated set is made first
    assert main(["study", "quick", "--seeds", "1"]) == 0 and len(started) == 3


def test_an_unknown_study_names_the_known_ones(project, caplog):
    assert main(["study", "slow"]) == 1
    assert "Known studies: ['quick']" in caplog.text


def test_a_study_can_measure_another_ones_models(project):
    folder, started = project
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
