"""The whole of GMAIL on a tiny mini world, through the real session, catalog, models and hooks."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

WHEN = ("before", "after")
ADAPTER = "data/06_models/{}/adapter/adapter_model.safetensors"

ALIGN_ALONE = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from conftest import TINY
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

project = Path(sys.argv[1])
bootstrap_project(project)
parameters = {**TINY, "run_id": sys.argv[3], "alignment": {"training": TINY["alignment"]["training"] | {"steps": 12}}}
with KedroSession.create(project_path=project, runtime_params=parameters) as session:
    session.run(pipeline_names=["align"])
"""


def test_scores_say_what_was_measured_on_what(project):
    scores = json.loads((project / "data/08_reporting/main/scores.json").read_text())
    assert scores["protocol"]["image_count"] == 24 and scores["protocol"]["generated_image_count"] == 30
    assert scores["retrieval"]["caption_count"] == 120
    assert scores["captioning"]["scores"]["cider"] >= 0 and 0 <= scores["captioning"]["scores"]["bleu_4"] <= 100
    assert {"wmd", "scene_tuples"} <= scores["captioning"]["scores"].keys()
    assert scores["linear_probe"]["unavailable"] == {"all": "evaluation.linear_probe is off"}
    assert scores["fine_tuning"]["unavailable"] == {"all": "fine_tuning.sets is empty"}
    assert "spice" in scores["captioning"]["scores"] or "CoreNLP" in scores["captioning"]["unavailable"]["spice"]
    assert {"digit_acc1", "ink_acc1", "position_acc1"} <= scores["classification"]["scores"].keys()
    assert scores["classification"]["scores"]["ink_acc1"] > 50
    gap = scores["gap"]["scores"]
    assert all(math.isfinite(value) for value in gap.values())
    assert gap["random_cosine_before"] < gap["paired_cosine_before"] <= 1
    for name in ("paired_cosine_after", "probe_auc_before"):
        interval = scores["gap"]["intervals"][name]
        assert interval["low"] <= gap[name] <= interval["high"]


def test_what_training_took_is_recorded(project):
    cost = json.loads((project / "data/08_reporting/main/cost.json").read_text())
    assert [cost[name]["scores"]["steps"] for name in ("alignment", "captioner", "retriever")] == [6, 8, 4]
    total = cost.pop("total")["scores"]
    assert total["steps"] == 6 + 8 and total["total_flops"] == sum(
        cost[name]["scores"]["total_flops"] for name in ("alignment", "captioner")
    )
    for training in cost.values():
        took = training["scores"]
        assert took["seconds"] > 0 and took["trainable_parameters"] > 1000
        assert took["total_flops"] == took["steps"] * took["step_flops"] > 1e9
        assert 1 <= took["steps_to_convergence"] <= took["steps"]
    assert cost["alignment"]["scores"]["trainable_parameters"] < cost["captioner"]["scores"]["trainable_parameters"]


def test_a_run_beside_itself_differs_in_nothing(project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    run_in(project, "comparison", run_id="main", baseline="main")
    comparison = json.loads((project / "data/08_reporting/main/against_main.json").read_text())
    assert {"cider", "i2t_r1", "ink_acc1", "scene_tuples", "wmd"} <= comparison["tests"].keys()
    for test in comparison["tests"].values():
        assert test["p_value"] == 1.0 and test["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
    assert (project / "data/08_reporting/main/captions_against_main.png").stat().st_size > 10_000


def test_results_lie_where_the_summary_says(project):
    summary = (project / "data/08_reporting/summary.md").read_text()
    places = [word for word in summary.split() if word.startswith("data/")]
    assert len(places) >= 4
    assert all((project / place).exists() for place in places)
    assert "| main |" in summary


def test_the_gap_is_measured_before_and_after_and_with_matched_codecs(project):
    gap = json.loads((project / "data/08_reporting/main/gap.json").read_text())
    scores, matched = gap["scores"], gap["codec_matched"]
    assert gap == json.loads((project / "data/08_reporting/main/scores.json").read_text())["gap"]
    assert gap["pair_count"] == 8
    for name in ("probe_auc", "probe_null_auc", "paired_cosine", "centroid_distance"):
        assert all(math.isfinite(side[f"{name}_{when}"]) for side in (scores, matched["scores"]) for when in WHEN)
    assert matched["scores"]["paired_cosine_before"] != scores["paired_cosine_before"]
    assert matched["codec_size"] == 32 and matched["codec_quality"] == 75
    for when in WHEN:
        bias = scores[f"pmb_norm_{when}"] ** 2 + scores[f"pob_norm_{when}"] ** 2
        assert bias == pytest.approx(scores[f"centroid_distance_{when}"] ** 2, rel=1e-6)
        assert -1 <= scores[f"generated_text_cosine_{when}"] < scores[f"paired_cosine_{when}"]
    assert scores["real_text_cosine_before"] == scores["real_text_cosine_after"]  # the real side is frozen
    assert scores["effective_rank_real_before"] == scores["effective_rank_real_after"]
    assert 0 < scores["preserved_cosine"] < 1  # the student has moved


def test_figures_are_images(project):
    from PIL import Image

    for name in ("pairs", "tsne", "spectra"):
        with Image.open(project / f"data/08_reporting/main/{name}.png") as figure:
            assert figure.width > 800 and len(set(figure.convert("L").getdata())) > 20


def test_pairs_share_their_caption_and_real_images_keep_to_one_split(project):
    pairs = pd.read_parquet(project / "data/03_primary/mini_sd/pairs.parquet")
    manifest = pd.read_parquet(project / "data/02_intermediate/mini_sd/manifest.parquet")
    assert len(pairs) == len(manifest) == 30
    joined = pairs.merge(manifest, left_on="generated_key", right_on="key")
    assert (joined["caption"] == joined["prompt"]).all()
    assert pairs.groupby("image_id")["split"].nunique().max() == 1
    assert set(pairs["split"]) == {"train", "val"}


def test_alignment_changed_the_adapter_and_recorded_every_step(project):
    state = load_file(project / ADAPTER.format("main"))
    second = [value for name, value in state.items() if "lora_B" in name]
    assert second and all(float(value.abs().max()) > 0 for value in second)
    history = pd.read_csv(project / "data/08_reporting/main/alignment_history.csv")
    assert list(history["step"]) == list(range(6))
    assert {"loss", "align", "moments", "learning_rate", "gradient_norm"} <= set(history.columns)
    assert not list((project / "data/06_models/main/checkpoints").iterdir())


def test_mlflow_has_one_finished_run_with_curves_parameters_adapter_and_lineage(project, mlflow_store):
    import mlflow

    client = mlflow.MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name("gmail_kedro")
    runs = [
        run
        for run in client.search_runs([experiment.experiment_id])
        if run.data.params.get("mini_world.train_count") == "40" and run.data.tags["run_name"] == "main"
    ]
    assert len(runs) == 1 and runs[0].info.status == "FINISHED"
    assert runs[0].data.params["alignment.lora.rank"] == "4" and runs[0].data.params["alignment"] == "alignment"
    assert len(client.get_metric_history(runs[0].info.run_id, "alignment/loss")) == 6
    assert "captioning/cider" in runs[0].data.metrics
    assert {"generated_set", "weights"} <= runs[0].data.tags.keys()
    artifacts = {item.path for item in client.list_artifacts(runs[0].info.run_id)}
    assert {"adapter", "tsne.png", "card.json", "README.md", "samples.png"} <= artifacts


def test_two_runs_with_one_seed_give_the_same_bytes_and_another_seed_does_not(project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    run_in(project, "align", run_id="again")
    run_in(project, "align", run_id="other", run={"seed": 1})
    first, again, other = ((project / ADAPTER.format(name)).read_bytes() for name in ("main", "again", "other"))
    assert first == again
    assert first != other


def test_without_tuning_the_student_is_the_teacher(project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    run_in(project, "experiment", run_id="frozen", alignment={"tune": "none"})
    gap = json.loads((project / "data/08_reporting/frozen/scores.json").read_text())["gap"]["scores"]
    for name in ("paired_cosine", "probe_auc", "centroid_distance"):
        assert gap[f"{name}_before"] == pytest.approx(gap[f"{name}_after"], abs=1e-5)
    assert gap["preserved_cosine"] == pytest.approx(1.0, abs=1e-5) and gap["pob_drift"] < 1e-3
    assert "| main |" in (project / "data/08_reporting/summary.md").read_text()


def test_algorithm_1_leaves_every_zero_shot_number_as_clip_has_it(project, run_in, monkeypatch):
    """Real images go through the frozen teacher, so no tuning can move them, not by one bit."""
    monkeypatch.chdir(project)
    run_in(project, "experiment", run_id="clip", alignment={"tune": "none"}, retriever={"training": {"steps": 0}})
    run_in(project, "experiment", run_id="eq1", alignment={"moment_weight": 0}, retriever={"training": {"steps": 0}})
    clip, eq1 = (
        json.loads((project / f"data/08_reporting/{name}/scores.json").read_text()) for name in ("clip", "eq1")
    )
    assert clip["retrieval"] == eq1["retrieval"] and clip["classification"] == eq1["classification"]
    assert clip["gap"]["scores"]["paired_cosine_after"] != eq1["gap"]["scores"]["paired_cosine_after"]


def test_generation_is_not_done_twice(project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    shards = sorted((project / "data/02_intermediate/mini_sd/shards").glob("*.tar"))
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in shards]
    run_in(project, "generation")
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in shards] == before
    assert len(before) == 2


@pytest.mark.reliability(18)
def test_alignment_killed_half_way_goes_on_to_the_same_bytes(project, tmp_path):
    script = tmp_path / "align_alone.py"
    script.write_text(ALIGN_ALONE)
    here = str(Path(__file__).parent)

    def start(run_id: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, str(script), str(project), here, run_id],
            cwd=project, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ,
        )  # fmt: skip

    assert start("straight").wait(timeout=300) == 0
    state = project / "data/06_models/killed/checkpoints/alignment.safetensors"
    victim = start("killed")
    deadline = time.monotonic() + 300
    while not state.exists() and victim.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert state.exists() and not (project / ADAPTER.format("killed")).exists()
    assert start("killed").wait(timeout=300) == 0
    straight, killed = ((project / ADAPTER.format(name)).read_bytes() for name in ("straight", "killed"))
    assert straight == killed
