"""Cells from hand-made runs: numbers, intervals, differences and reasons whose answers can be seen."""

import json

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.pipelines.reporting.reproduction_nodes import fill_tables, fit_laws, write_tables
from gmail_kedro.reporting.paper_tables import build_cells, tables_markdown
from gmail_kedro.reporting.table_definitions import read_tables

IMAGES = [f"image {number}" for number in range(40)]
SHOWN = {"title": "T", "seed_count": 1, "reason": "", "higher_is_better": True}
PROTOCOL = {"corpus": "mini", "split": "test", "image_count": 40, "encoder": "mini_clip", "generated_image_count": 200}
COLUMNS = {
    "cider": "scores:captioning/cider",
    "bleu_4": "scores:captioning/bleu_4",
    "spice": "scores:captioning/spice",
    "auc": {"at": "scores:gap/codec_matched/probe_auc_after", "lower": True},
    "flickr": "transfer:flickr/i2t_r1",
    "hours": {"at": "cost:total/seconds", "lower": True, "per": 3600},
}
TABLE = {
    "title": "T",
    "note": "N",
    "columns": COLUMNS,
    "rows": {
        "base": {"run": "base", "paper": [100, 30, 20, None, None, 1]},
        "ours": {"run": "ours", "against": "base", "paper": [110, 33, 24, None, None, 2]},
        "absent": {"run": "absent", "against": "base"},
        "never": {"run": "absent", "blocked": "needs a licence"},
    },
}


def store(folder, name, seed, *, cider, protocol=None, transfer=None):
    run = folder / f"{name}-{seed}"
    run.mkdir(parents=True)
    scores = {
        "captioning": {
            "scores": {"cider": float(np.mean(cider)), "bleu_4": 30.0 + seed + len(name) % 2},
            "intervals": {"cider": {"mean": 0, "low": 90.0, "high": 99.0}} if name == "base" else {},
            "unavailable": {"spice": "SPICE needs CoreNLP"},
        },
        "gap": {"scores": {}, "codec_matched": {"scores": {"probe_auc_after": 0.6}, "intervals": {}}},
        "protocol": PROTOCOL | {"generated_set": "set of " + name, "seed": seed} | (protocol or {}),
    }
    (run / "scores.json").write_text(json.dumps(scores))
    (run / "cost.json").write_text(json.dumps({"total": {"scores": {"seconds": 7200.0}}}))
    pd.DataFrame({"image_id": IMAGES[::-1], "measure": "cider", "value": cider[::-1]}).to_parquet(
        run / "item_scores.parquet"
    )
    if transfer is not None:
        group = {"scores": {"i2t_r1": float(np.mean(transfer))}, "intervals": {}, "corpus": "mini_flickr"}
        (run / "transfer.json").write_text(json.dumps({"flickr": group}))
        items = pd.DataFrame({"group": "flickr", "image_id": IMAGES, "measure": "i2t_r1", "value": transfer})
        items.to_parquet(run / "transfer_items.parquet")
    receipt = {"run_id": f"repro/{name}-{seed}", "pipelines": ["experiment"], "git_commit": "abc", "generator": "sd"}
    (run / "run.json").write_text(json.dumps(receipt))


@pytest.fixture
def runs(tmp_path):
    rng = np.random.default_rng(0)
    for seed in (0, 1, 2):
        base = rng.normal(100, 20, len(IMAGES))
        store(tmp_path, "base", seed, cider=base, transfer=base)
        store(tmp_path, "ours", seed, cider=base + 5 + rng.normal(0, 1, len(IMAGES)), transfer=base + 2)
    return tmp_path


def cells_of(folder, seeds, table=TABLE):
    return build_cells(read_tables({"tables": {1: table}}), folder, seeds).set_index(["row", "column"])


def test_one_seed_is_compared_image_by_image(runs):
    cells = cells_of(runs, [0])
    base, ours = cells.loc[("base", "cider")], cells.loc[("ours", "cider")]
    assert (base["low"], base["high"]) == (90.0, 99.0)  # the run's own interval
    assert ours["low"] < ours["ours"] < ours["high"]  # from its images, where the run gives none
    assert ours["effect"] == pytest.approx(5, abs=0.5)
    assert ours["effect_low"] > 4 and ours["effect_high"] < 6  # images differ by 20; paired, that cancels out
    assert (ours["paper"], ours["paper_effect"], ours["against"]) == (110, 10, "base")
    bleu = cells.loc[("ours", "bleu_4")]
    assert bleu["effect"] == 0 and np.isnan([bleu["low"], bleu["effect_low"]]).all()  # one number has no spread
    assert np.isnan(base["effect"]) and np.isnan(base["paper_effect"])


@pytest.mark.reliability(26)
def test_numbers_come_from_every_file_in_the_papers_unit_with_where_they_are_from(runs):
    cells = cells_of(runs, [0])
    assert cells.loc[("ours", "hours")]["ours"] == 2.0 and not cells.loc[("ours", "hours")]["higher_is_better"]
    assert cells.loc[("ours", "auc")]["ours"] == 0.6
    flickr = cells.loc[("ours", "flickr")]
    assert flickr["corpus"] == "mini_flickr" and flickr["effect"] == pytest.approx(2)
    assert flickr["effect_low"] == pytest.approx(2) == flickr["effect_high"]
    cider = cells.loc[("ours", "cider")]
    assert (cider["run_ids"], cider["git_commit"], cider["generator"]) == ("repro/ours-0", "abc", "sd")
    assert (cider["corpus"], cider["split"], cider["generated_set"]) == ("mini", "test", "set of ours")


def test_paired_cosines_are_compared_pair_by_pair(tmp_path):
    rng = np.random.default_rng(0)
    cosines = rng.uniform(0.2, 0.9, len(IMAGES))
    for name, gain in (("base", 0.0), ("ours", 0.02)):
        store(tmp_path, name, 0, cider=cosines)
        scores = json.loads((tmp_path / f"{name}-0/scores.json").read_text())
        scores["gap"]["scores"]["paired_cosine_after"] = float(np.mean(cosines)) + gain
        (tmp_path / f"{name}-0/scores.json").write_text(json.dumps(scores))
        items = pd.DataFrame({"image_id": IMAGES, "measure": "paired_cosine_after", "value": cosines + gain})
        items.to_parquet(tmp_path / f"{name}-0/item_scores.parquet")
    table = TABLE | {"columns": {"cosine": "scores:gap/paired_cosine_after"}}
    table["rows"] = {name: {key: row[key] for key in row if key != "paper"} for name, row in TABLE["rows"].items()}
    ours = cells_of(tmp_path, [0], table).loc[("ours", "cosine")]
    assert ours["effect_low"] == pytest.approx(0.02) == ours["effect_high"]


def test_several_seeds_are_averaged_and_their_spread_counts(runs):
    one, three = cells_of(runs, [0]), cells_of(runs, [0, 1, 2])
    ours = three.loc[("ours", "cider")]
    assert ours["seed_count"] == 3 and ours["run_ids"] == "repro/ours-0,repro/ours-1,repro/ours-2"
    assert ours["effect"] == pytest.approx(5, abs=0.5) and ours["effect_low"] > 4 and ours["effect_high"] < 6
    assert three.loc[("ours", "bleu_4")]["ours"] == pytest.approx(31.0)
    assert three.loc[("ours", "bleu_4")]["low"] < 31 < three.loc[("ours", "bleu_4")]["high"]
    assert one.loc[("ours", "bleu_4")]["ours"] == 30.0


def test_what_was_not_run_is_blocked_with_its_own_reason(runs):
    cells = cells_of(runs, [0])
    told = {name: cells.loc[name]["reason"] for name in (("absent", "cider"), ("ours", "spice"), ("never", "cider"))}
    assert told[("absent", "cider")] == "not run: gmail-kedro run absent --seed 0"
    assert told[("ours", "spice")] == "SPICE needs CoreNLP" and told[("never", "cider")] == "needs a licence"
    blocked = cells[cells["status"] == "blocked"]
    assert blocked["ours"].isna().all() and (blocked["seed_count"] == 0).all() and (blocked["reason"] != "").all()
    assert cells.loc[("ours", "spice")]["paper_effect"] == 4
    assert set(cells.loc["base"]["status"]) == {"run", "blocked"}


def test_a_run_without_its_receipt_is_not_counted_and_a_missing_file_is_told(runs):
    (runs / "base-0/run.json").unlink()
    (runs / "ours-0/transfer.json").unlink()
    cells = cells_of(runs, [0])
    assert (cells.loc["base"]["status"] == "blocked").all()
    assert cells.loc[("ours", "cider")]["status"] == "run" and np.isnan(cells.loc[("ours", "cider")]["effect"])
    assert "repro/ours-0 left no transfer.json: its pipelines are experiment" in cells.loc[("ours", "flickr")]["reason"]


@pytest.mark.reliability(26)
def test_rows_measured_differently_are_not_compared(runs):
    store(runs, "other", 0, cider=np.ones(len(IMAGES)), protocol={"split": "val"})
    table = TABLE | {"rows": {"base": TABLE["rows"]["base"], "other": {"run": "other", "against": "base"}}}
    cell = cells_of(runs, [0], table).loc[("other", "cider")]
    assert cell["status"] == "run" and np.isnan(cell["effect"]) and cell["reason"].endswith("differently in split")


def test_rows_of_one_seed_each_are_compared(runs):
    rows = {"seed 0": {"run": "base", "seeds": [0]}, "seed 1": {"run": "base", "seeds": [1], "against": "seed 0"}}
    cells = cells_of(runs, [0], TABLE | {"rows": rows})
    assert cells.loc[("seed 1", "bleu_4")]["effect"] == 1 and cells.loc[("seed 1", "cider")]["seed_count"] == 1


def test_laws_are_fitted_where_there_are_three_sizes(runs):
    for size, recall in ((400, 60.0), (1600, 80.0), (6400, 90.0)):
        items = recall + np.random.default_rng(size).normal(0, 3, len(IMAGES))
        store(runs, f"size_{size}", 0, cider=items, transfer=items, protocol={"generated_image_count": size})
    rows = {str(size): {"run": f"size_{size}"} for size in (400, 1600, 6400)}
    definitions = {"tables": {102: TABLE | {"rows": rows}}, "laws": {102: ["cider", "bleu_4"]}}
    tables = fill_tables(definitions, {"seeds": [0]}, runs)
    laws, points = fit_laws(definitions, tables)
    assert laws["102"]["cider"]["exponent"] == pytest.approx(0.5, abs=0.05)
    assert "with b = 0." in laws["102"]["cider"]["claim"]
    assert laws["102"]["bleu_4"] == {"claim": "no law: 0 sizes were measured with an interval, it takes three"}
    assert points["generated_image_count"].tolist() == [400, 1600, 6400] and "cider" in points
    page, numbers = write_tables(definitions, tables, laws)
    assert "Table 102, cider: 100 - score = " in page and numbers["table 102"]["400"]["bleu_4"] == 30.0


def store_classes(folder, name, **groups):
    """A run that scored sets by group, with top-1 image by image under the groups' prefixes."""
    run = folder / f"{name}-0"
    run.mkdir()
    scores, items = {"protocol": PROTOCOL}, []
    for group, sets in groups.items():
        values = {key: float(np.mean(correct)) for key, correct in sets.items()}
        scores[group] = {"scores": values, "intervals": {}, "unavailable": {}}
        prefix = "" if group == "classification" else f"{group}_"
        items += [
            pd.DataFrame({"image_id": IMAGES, "measure": f"{prefix}{key}", "value": correct})
            for key, correct in sets.items()
        ]
    (run / "scores.json").write_text(json.dumps(scores))
    pd.concat(items).to_parquet(run / "item_scores.parquet")
    (run / "run.json").write_text(json.dumps({"run_id": f"repro/{name}-0", "pipelines": ["experiment"]}))


def test_real_sets_and_those_of_the_mini_world_fill_the_same_table(tmp_path):
    rng = np.random.default_rng(0)
    real, mini, tuned, other = (rng.choice([0.0, 100.0], len(IMAGES)) for _ in range(4))
    table = {
        "title": "T",
        "columns": {
            "dtd": ["scores:classification/dtd_acc1", "scores:classification/pattern_acc1"],
            "imagenet": ["scores:classification/imagenet_acc1", "scores:classification/relation_acc1"],
        },
        "rows": {
            "real": {"run": "real", "group": "fine_tuning linear_probe"},
            "better": {"run": "better", "against": "real", "group": "fine_tuning linear_probe"},
            "mini": {"run": "mini", "group": "fine_tuning linear_probe"},
            "zero-shot": {"run": "zero"},
        },
    }
    store_classes(tmp_path, "real", fine_tuning={"imagenet_acc1": tuned}, linear_probe={"dtd_acc1": real})
    store_classes(tmp_path, "better", fine_tuning={"imagenet_acc1": other}, linear_probe={"dtd_acc1": real})
    store_classes(tmp_path, "mini", linear_probe={"pattern_acc1": mini, "relation_acc1": other})
    store_classes(tmp_path, "zero", classification={"dtd_acc1": mini, "imagenet_acc1": real})
    ours = cells_of(tmp_path, [0], table)["ours"]
    assert list(ours) == [one.mean() for one in (real, tuned, real, other, mini, other, mini, real)]
    better = cells_of(tmp_path, [0], table).loc[("better", "imagenet")]
    assert better["effect"] == other.mean() - tuned.mean()
    assert better["effect_low"] < better["effect"] < better["effect_high"]  # paired image by image


@pytest.mark.parametrize("file", ["run.json", "scores.json", "cost.json", "item_scores.parquet"])
def test_a_damaged_run_is_left_out_and_named_and_the_others_are_reported(runs, file, caplog):
    whole = cells_of(runs, [0])
    damaged = runs / "ours-0" / file
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    cells = cells_of(runs, [0])
    assert (cells.loc["ours"]["status"] == "blocked").all()
    reason = cells.loc[("ours", "cider")]["reason"]
    assert reason.startswith(f"{damaged} is damaged (") and reason.endswith("; run ours-0 again")
    assert cells.loc[("base", "cider")]["ours"] == whole.loc[("base", "cider")]["ours"]
    assert f"The tables go without a run: {reason}." in caplog.text


def test_a_damaged_seed_is_named_beside_the_numbers_of_the_others(runs):
    (runs / "ours-1/scores.json").write_text('{"captioning": ')
    cell = cells_of(runs, [0, 1, 2]).loc[("ours", "cider")]
    assert cell["seed_count"] == 2 and cell["run_ids"] == "repro/ours-0,repro/ours-2"
    assert cell["effect"] == pytest.approx(5, abs=0.5) and "ours-1/scores.json is damaged" in cell["reason"]


def test_a_difference_from_a_damaged_run_says_why_it_is_missing(runs):
    (runs / "base-0/scores.json").write_text("[]")
    cell = cells_of(runs, [0]).loc[("ours", "cider")]
    assert cell["status"] == "run" and np.isnan(cell["effect"])
    assert "base-0/scores.json is damaged (expected a JSON object, found list)" in cell["reason"]


@pytest.mark.reliability(26)
@pytest.mark.parametrize(
    "key", ["corpus", "split", "image_count", "retrieval_protocol", "caption_tokenizer", "encoder"]
)
def test_seeds_that_were_measured_differently_are_no_mean(runs, key):
    store(runs, "mixed", 0, cider=np.ones(len(IMAGES)))
    store(runs, "mixed", 1, cider=np.ones(len(IMAGES)), protocol={key: "another"})
    table = TABLE | {"rows": {"mixed": {"run": "mixed"}}}
    cell = cells_of(runs, [0, 1], table).loc[("mixed", "cider")]
    assert cell["status"] == "blocked" and np.isnan(cell["ours"])
    assert cell["reason"] == f"the seeds of this row were measured differently in {key}; run them again"
    assert cells_of(runs, [0], table).loc[("mixed", "cider")]["status"] == "run"


def test_markdown_shows_what_was_run_and_a_dash_with_the_reason_for_what_was_not():
    nothing = dict.fromkeys(
        ("ours", "low", "high", "paper", "effect", "effect_low", "effect_high", "paper_effect"), np.nan
    )
    base = SHOWN | nothing | {"table": 1, "row": "base", "run": "b", "against": "", "status": "run"}
    ours = base | {"row": "ours", "run": "g", "against": "base"}
    cells = pd.DataFrame(
        [
            base | {"column": "cider", "ours": 112.9, "low": 110.0, "high": 115.0, "paper": 108.35},
            base | {"column": "spice", "paper": 20.12, "status": "blocked", "reason": "no CoreNLP"},
            ours | {"column": "cider", "ours": 114.0, "effect": 1.1, "effect_low": -0.5, "effect_high": 2.5,
                    "paper": 119.53, "paper_effect": 11.18},
            ours | {"column": "spice", "paper": 23.75, "paper_effect": 3.63, "status": "blocked",
                    "reason": "no CoreNLP"},
        ]
    )  # fmt: skip
    text = tables_markdown(cells, {1: "What it means."}, ["a law"])
    assert "2 of 4 cells were run" in text and "What it means." in text and "- a law" in text
    assert "| base | — | b | 1 | 112.90 [110.00, 115.00] \\| 108.35 | — \\| 20.12 |" in text
    assert "| ours | base | g | 1 | 114.00 (+1.10 [-0.50, +2.50]) \\| 119.53 (+11.2) | — \\| 23.75 (+3.63) |" in text
    assert text.count("- — in spice: no CoreNLP") == 1
