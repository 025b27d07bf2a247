"""Studies: what is compared with what, and that nothing is run twice."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import yaml

from gmail_kedro.commands import main
from gmail_kedro.commands import runs as named_runs
from gmail_kedro.pipelines.reporting.study import GAP_MEASURES, study_markdown, study_table

IMAGES = [str(number) for number in range(30)]


def store_run(folder, name, *, auc, cider=None):
    run = folder / name
    run.mkdir(parents=True)
    scores = {f"{measure}_after": 0.5 for measure in GAP_MEASURES} | {"probe_auc_after": auc}
    (run / "gap.json").write_text(json.dumps({"scores": scores}))
    if cider is not None:
        items = pd.DataFrame({"image_id": IMAGES[::-1], "measure": "cider", "value": cider[::-1]})
        items.to_parquet(run / "item_scores.parquet")


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    for seed in (0, 1, 2):
        base = rng.normal(100, 20, len(IMAGES))
        store_run(tmp_path, f"frozen-{seed}", auc=0.70 + 0.01 * seed, cider=base)
        store_run(tmp_path, f"ours-{seed}", auc=0.55 + 0.01 * seed, cider=base + 5 + rng.normal(0, 1, len(IMAGES)))
    store_run(tmp_path, "half-0", auc=0.9)
    return tmp_path


def row_of(table, variant, measure):
    return table[(table["variant"] == variant) & (table["measure"] == measure)].iloc[0]


def test_differences_are_paired_within_seed_and_image(runs):
    table = study_table(runs, ["frozen", "ours", "half"], [0, 1, 2], baseline="frozen")
    ours = row_of(table, "ours", "cider")
    assert ours["difference"] == pytest.approx(5, abs=0.5)
    assert ours["low"] > 4 and ours["high"] < 6  # images differ by 20; paired, that cancels out
    assert row_of(table, "ours", "probe_auc")["difference"] == pytest.approx(-0.15)
    assert row_of(table, "ours", "probe_auc")["deviation"] == pytest.approx(0.01)
    assert row_of(table, "half", "probe_auc")["seeds"] == 1
    assert not ((table["variant"] == "half") & (table["measure"] == "cider")).any()


def test_the_baseline_differs_from_itself_by_nothing(runs):
    frozen = row_of(study_table(runs, ["frozen"], [0, 1, 2], baseline="frozen"), "frozen", "cider")
    assert frozen["difference"] == frozen["low"] == frozen["high"] == 0


def test_markdown_shows_what_ran_and_a_dash_for_what_did_not(runs):
    table = study_table(runs, ["frozen", "ours", "half"], [0, 1, 2], baseline="frozen")
    lines = study_markdown(table, ["cider", "probe_auc"], baseline="frozen").splitlines()
    assert lines[0] == "| variant | seeds | cider | probe_auc |"
    assert lines[2].startswith("| frozen | 3 |") and "(" not in lines[2]
    assert lines[3].startswith("| ours | 3 |") and "(+5." in lines[3] and "(-0.150 [" in lines[3]
    assert lines[4] == "| half | 1 | — | 0.900 (+0.200) |"  # one seed, no interval


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
        "alignment": {"steps": 3, "tune": "none"},
    }
    assert started[2]["alignment"] == {"steps": 5} and started[2]["run"] == {"seed": 1}
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


@pytest.mark.reliability(26)
def test_other_photographs_are_not_paired(runs):
    items = pd.read_parquet(runs / "ours-0" / "item_scores.parquet")
    assert np.isfinite(
        row_of(study_table(runs, ["frozen", "ours"], [0], baseline="frozen"), "ours", "cider")["difference"]
    )
    items["image_id"] = [f"other {name}" for name in items["image_id"]]
    items.to_parquet(runs / "ours-0" / "item_scores.parquet")
    row = row_of(study_table(runs, ["frozen", "ours"], [0], baseline="frozen"), "ours", "cider")
    assert np.isfinite(row["mean"]) and np.isnan(row["difference"])
