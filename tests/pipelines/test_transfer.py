"""Runs measured on corpora that nothing was trained on, through the real session, catalog and models."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest

from gmail_kedro.evaluation.splits import evaluation_rows
from gmail_kedro.interfaces import Corpus
from gmail_kedro.params.base import ParameterError
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.transfer import TransferParams
from gmail_kedro.pipelines.transfer.nodes import collect_transfer_items, plan_transfer

PROTOCOLS = TransferParams(flickr_protocol="flickr30k_1k", long_caption_protocol="sharegpt4v_1k")
NO_PROTOCOLS = TransferParams(flickr_protocol=None, long_caption_protocol=None)
EVALUATION = EvaluationParams(
    split="val", image_count=3, beam_size=1, caption_tokenizer="simple", meteor=False, word_vectors=None,
    scene_tuples=False, retrieval_protocol=None, class_sets=None, linear_probe=False, bootstrap_count=20, seed=0,
)  # fmt: skip


def corpus(name, *rows):
    return Corpus(
        name=name,
        captions=pd.DataFrame(rows, columns=["image_id", "split"], dtype="str").assign(caption="a 7."),
        images=SimpleNamespace(read=lambda key: f"{name} {key}".encode()),
        labels={},
    )


COCO = corpus("coco", ("COCO_train2014_000000000009.jpg", "train"), ("COCO_val2014_000000000012.jpg", "test"))
FLICKR = corpus("flickr30k", ("1000268201.jpg", "test"), ("1000268202.jpg", "test"))
LONG = corpus("sharegpt4v", ("coco/train2017/000000000009.jpg", "test"), ("sam/sa_1.jpg", "test"))


def read(project, run_id):
    return json.loads((project / f"data/08_reporting/{run_id}/transfer.json").read_text())


def test_whole_test_splits_are_measured_whatever_tuning_looks_at():
    flickr, long, facts = plan_transfer(COCO, FLICKR, LONG, PROTOCOLS, EVALUATION)
    assert (flickr.split, flickr.image_count, flickr.retrieval_protocol) == ("test", None, "flickr30k_1k")
    assert long == flickr.replace(retrieval_protocol="sharegpt4v_1k")
    assert facts["flickr"] == {"corpus": "flickr30k", "split": "test", "trained_picture_count": 0}
    with pytest.raises(ValueError, match="'flickr30k_1k' ranks 1000 images with 5000 captions.* Got 2 with 2"):
        evaluation_rows(FLICKR, flickr)


def test_training_images_are_refused_in_flickrs_place_and_counted_among_long_captions(caplog):
    assert plan_transfer(COCO, FLICKR, LONG, NO_PROTOCOLS, EVALUATION)[2]["long_captions"]["trained_picture_count"] == 1
    assert "1 training images of 'coco' are among those of 'sharegpt4v'" in caplog.text
    with pytest.raises(ValueError, match="1 of the 1 training images of the corpus 'coco' are among the 2"):
        plan_transfer(COCO, LONG, LONG, NO_PROTOCOLS, EVALUATION)


def test_an_unknown_protocol_is_refused_by_name():
    with pytest.raises(ParameterError, match="transfer.flickr_protocol must be one of .*'flickr30k_whole'"):
        TransferParams(flickr_protocol="flickr", long_caption_protocol=None)


def test_items_say_which_corpus_they_are_of():
    part = pd.DataFrame({"image_id": ["1"], "measure": ["i2t_r1"], "value": [100.0]})
    items = collect_transfer_items(part, part.assign(value=0.0))
    assert items.set_index("group")["value"].to_dict() == {"flickr": 100.0, "long_captions": 0.0}


def test_a_finished_run_is_measured_on_both(project, run_in, monkeypatch, mlflow_store):
    import mlflow

    monkeypatch.chdir(project)
    run_in(project, "transfer", run_id="main")
    scores = read(project, "main")
    for group, images, captions in (("flickr", 20, 100), ("long_captions", 16, 16)):
        found = scores[group]
        assert (found["corpus"], found["image_count"], found["caption_count"]) == (f"mini_{group}", images, captions)
        assert found["scores"]["i2t_r10"] > 10 * 100 / captions and "tuned_t2i_r1" in found["scores"]
        assert found["intervals"]["i2t_r1"]["low"] <= found["scores"]["i2t_r1"] <= found["intervals"]["i2t_r1"]["high"]
    assert scores["flickr"]["truncated_caption_count"] == 0 < scores["long_captions"]["truncated_caption_count"] < 16
    assert scores["protocol"] == {"encoder": "mini_clip", "real_path": "frozen", "seed": 0}
    items = pd.read_parquet(project / "data/08_reporting/main/transfer_items.parquet")
    means = items.groupby(["group", "measure"])["value"].mean()
    for group in ("flickr", "long_captions"):
        for measure in ("i2t_r1", "t2i_r1", "tuned_i2t_r1", "tuned_t2i_r1"):
            assert means[group, measure] == pytest.approx(scores[group]["scores"][measure])
    client = mlflow.MlflowClient(mlflow_store)
    experiment = client.get_experiment_by_name("gmail_kedro")
    runs = [run for run in client.search_runs([experiment.experiment_id]) if "transfer" in run.info.run_name]
    assert runs and runs[0].data.metrics["transfer/flickr/i2t_r1"] == scores["flickr"]["scores"]["i2t_r1"]


@pytest.mark.slow
def test_algorithm_1_leaves_zero_shot_transfer_as_the_frozen_encoder_has_it(project, run_in, monkeypatch):
    """Real images go through the frozen teacher: what moves is the text tower tuned downstream, and nothing else."""
    monkeypatch.chdir(project)
    steps = ("alignment", "downstream", "transfer")
    run_in(project, *steps, run_id="transfer_clip", alignment={"tune": "none"})
    run_in(project, *steps, run_id="transfer_eq1", alignment={"moment_weight": 0})
    clip, eq1 = read(project, "transfer_clip"), read(project, "transfer_eq1")
    for group in ("flickr", "long_captions"):
        for part in ("scores", "intervals"):
            first, second = (
                {name: value for name, value in run[group][part].items() if not name.startswith("tuned_")}
                for run in (clip, eq1)
            )
            assert first == second and len(first) == 6


@pytest.mark.slow
def test_an_encoder_without_texts_says_so(project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    steps = ("alignment", "downstream", "transfer")
    run_in(project, *steps, run_id="transfer_synclr", run={"encoder": "mini_synclr"}, alignment={"tune": "none"})
    scores = read(project, "transfer_synclr")
    for group in ("flickr", "long_captions"):
        assert scores[group]["scores"] == {}
        assert scores[group]["unavailable"] == {"all": "the encoder 'mini_synclr' reads no texts"}
