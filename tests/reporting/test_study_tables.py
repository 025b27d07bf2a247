"""The table of a study: what is compared with what."""

import json

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.reporting.study_tables import GAP_MEASURES, study_markdown, study_table

IMAGES = [str(number) for number in range(30)]


def store_run(folder, name, *, auc, cider=None):
    run = folder / name
    run.mkdir(parents=True)
    scores = {f"{measure}_after": 0.5 for measure in GAP_MEASURES} | {"probe_auc_after": auc}
    (run / "gap.json").write_text(json.dumps({"scores": scores}))
    (run / "run.json").write_text(json.dumps({"run_id": f"study/{name}", "pipelines": ["alignment"]}))
    if cider is not None:
        captioning = {"scores": {"cider": float(np.mean(cider))}}
        (run / "scores.json").write_text(json.dumps({"captioning": captioning}))
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
    store_run(tmp_path, "half-1", auc=0.1)
    (tmp_path / "half-1/run.json").unlink()  # it was not run to the end
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


@pytest.mark.reliability(26)
def test_other_real_images_are_not_paired(runs):
    items = pd.read_parquet(runs / "ours-0" / "item_scores.parquet")
    assert np.isfinite(
        row_of(study_table(runs, ["frozen", "ours"], [0], baseline="frozen"), "ours", "cider")["difference"]
    )
    items["image_id"] = [f"other {name}" for name in items["image_id"]]
    items.to_parquet(runs / "ours-0" / "item_scores.parquet")
    row = row_of(study_table(runs, ["frozen", "ours"], [0], baseline="frozen"), "ours", "cider")
    assert np.isfinite(row["mean"]) and np.isnan(row["difference"])
