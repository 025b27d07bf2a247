"""LLaVA through the nodes of its pipeline, on tiny checkpoints in their published formats."""

import io
import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gmail_kedro.engine.batches import FrozenActivations
from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.interfaces import Corpus, Question
from gmail_kedro.mini.world.grammar import GRAMMAR
from gmail_kedro.models.inventory import check_models
from gmail_kedro.models.vision_language.vision_towers import RouteError
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.params.vision_language import VisionLanguageParams
from gmail_kedro.pipelines.vision_language.nodes import answer_prompts, score_answers, train_vision_language_model

from ..models.tiny import promising_nothing
from ..models.tiny_llava import save_llama_3, save_llava, save_tower
from ..models.vision_language.test_vision_towers import NOTHING, make_student

WEIGHTS = ("adapter_model.safetensors", "projector.safetensors")
EVALUATION = EvaluationParams(
    split="test",
    image_count=None,
    beam_size=1,
    caption_tokenizer="simple",
    meteor=False,
    word_vectors=None,
    scene_tuples=False,
    retrieval_protocol=None,
    class_sets=None,
    linear_probe=False,
    bootstrap_count=20,
    seed=0,
)


class AnyImages:
    """Coloured squares by key, and which were read."""

    identity = {"name": "squares", "fingerprint": "f" * 64, "gate": "g" * 64}

    def __init__(self, shade: int) -> None:
        self.shade, self.reads = shade, set()

    def read(self, key: str) -> bytes:
        self.reads.add(key)
        return square(int(key.split("/")[0]) * 20, self.shade)


def square(red: int, green: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (28, 28), (red % 256, green, 90)).save(stream, format="PNG")
    return stream.getvalue()


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing("clip_vision_l_14_336", "llava_1_5_7b", "llama_3_8b_instruct"):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("vision_language")
    save_llava(root / "llava", save_tower(root / "tower"))
    save_llama_3(root / "llama_3")
    return root


@pytest.fixture
def data():
    numbers = [str(number) for number in range(10)]
    pairs = pd.DataFrame(
        {
            "caption_id": numbers,
            "image_id": numbers,
            "caption": [f"a red {number} on lined paper." for number in numbers],
            "real_key": numbers,
            "generated_key": [f"{number}/0" for number in numbers],
            "split": ["train"] * 8 + ["val"] * 2,
        }
    )
    captions = pd.DataFrame(
        {"caption_id": ["90", "91"], "image_id": ["8", "9"], "caption": ["a 8", "a 9"], "split": "test"}
    )
    return pairs, Corpus("tiny", captions, AnyImages(30), {}, grammar=GRAMMAR), AnyImages(200)


def run_params(folders):
    return RunParams(
        seed=0, device="cpu", precision="float32", encoder="clip_vision_l_14_336",
        encoder_path=str(folders / "tower"), image_batch_size=4, engine="local",
    )  # fmt: skip


def params(folders, **changes):
    values = {
        "model": "llava_1_5_7b", "model_path": str(folders / "llava"), "dtype": "float32", "chat_format": "auto",
        "feature_layer": -2, "feature_select": "default", "train_on": "generated", "real_fraction": 0.5,
        "caption_prompt": "Provide a one-sentence caption for the provided image.", "questions_per_image": 1,
        "lora": {"rank": 2, "alpha": 4, "dropout": 0.1, "targets": ["q_proj", "up_proj"]},
        "train_projector": True, "training": {
            "steps": 6, "batch_size": 4, "micro_batch_size": 4, "learning_rate": 0.01, "projector_learning_rate": 0.01,
            "weight_decay": 0.0, "schedule": "cosine", "warmup_steps": 1, "clip_norm": 1.0, "checkpoint_every": 2,
            "checkpoint_activations": False,
        },
        "cache_gib": 1.0, "max_tokens": 4, "answer_batch_size": 3,
    }  # fmt: skip
    return VisionLanguageParams(**values).replace(**changes)


def train(folders, data, student, work, **changes):
    """Trains, stores, and returns what was stored with the history."""
    pairs, corpus, generated = data
    result, history = train_vision_language_model(
        pairs, corpus, generated, student, Checkpoints(work), params(folders, **changes), run_params(folders)
    )
    result.save_pretrained(work / "model")
    stored = {}
    for name in WEIGHTS:
        if (work / "model" / name).is_file():
            stored |= load_file(work / "model" / name)
    return stored, history


@pytest.fixture
def stops_once(monkeypatch):
    """The fourth batch of images is where a training is interrupted, once."""
    look, calls = FrozenActivations.__getitem__, []

    def look_or_stop(self, rows):
        calls.append(rows)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return look(self, rows)

    def arm():
        monkeypatch.setattr(FrozenActivations, "__getitem__", look_or_stop)

    return arm


def differ(first: dict, second: dict) -> bool:
    return first.keys() != second.keys() or any(not torch.equal(first[key], second[key]) for key in first)


def test_an_interrupted_training_goes_on_to_the_same_bytes(folders, data, tmp_path, stops_once):
    student = make_student(folders, tmp_path / "student")
    straight, history = train(folders, data, student, tmp_path / "straight")
    assert list(history["step"]) == list(range(6)) and np.isfinite(history["val_loss"].iloc[-1])
    stops_once()
    with pytest.raises(KeyboardInterrupt):
        train(folders, data, student, tmp_path / "broken")
    assert (tmp_path / "broken/vision_language.safetensors").is_file()
    resumed, again = train(folders, data, student, tmp_path / "broken")
    assert not differ(straight, resumed)
    measured = ["seconds", "peak_bytes", "energy_joules"]
    assert history.drop(columns=measured, errors="ignore").equals(again.drop(columns=measured, errors="ignore"))


def test_a_checkpoint_of_another_student_is_refused(folders, data, tmp_path, stops_once):
    stops_once()
    with pytest.raises(KeyboardInterrupt):
        train(folders, data, make_student(folders, tmp_path / "one"), tmp_path / "work")
    other = make_student(folders, tmp_path / "other", real_path="lora_proj")
    with pytest.raises(ValueError, match="belongs to another run: towers was"):
        train(folders, data, other, tmp_path / "work")


def test_memory_settings_do_not_change_the_result(folders, data, tmp_path):
    student, whole_rows = make_student(folders, tmp_path / "student"), {"lora.dropout": 0.0}
    whole, _ = train(folders, data, student, tmp_path / "whole", **whole_rows)
    uncached, _ = train(folders, data, student, tmp_path / "uncached", cache_gib=0.0, **whole_rows)
    parts, _ = train(folders, data, student, tmp_path / "parts", **whole_rows, **{"training.micro_batch_size": 3})
    assert not differ(whole, uncached)
    assert all(torch.allclose(whole[key], parts[key], atol=1e-4) for key in whole)


def test_the_tuned_tower_reaches_the_training_on_generated_images_only(folders, data, tmp_path):
    tuned = make_student(folders, tmp_path / "tuned")
    moved = make_student(folders, tmp_path / "moved", image=NOTHING)
    results = {}
    for name, student in (("tuned", tuned), ("stock", moved)):
        for source in ("generated", "real"):
            results[name, source], _ = train(folders, data, student, tmp_path / f"{name}_{source}", train_on=source)
    assert differ(results["tuned", "generated"], results["stock", "generated"])
    assert not differ(results["tuned", "real"], results["stock", "real"])  # real_path: frozen is the stock tower
    recipe = json.loads((tmp_path / "tuned_generated/model/vision_language.json").read_text())
    stock = json.loads((tmp_path / "stock_generated/model/vision_language.json").read_text())
    assert recipe["towers"]["real"] == stock["towers"]["real"] == stock["towers"]["generated"]
    assert recipe["towers"]["generated"] != recipe["towers"]["real"]


@pytest.mark.parametrize(("source", "real", "generated"), [("generated", 0, 10), ("real", 10, 0), ("mixed", 10, 10)])
def test_only_images_of_the_declared_source_are_opened(source, real, generated, folders, data, tmp_path):
    student = make_student(folders, tmp_path / "student")
    train(folders, data, student, tmp_path / "work", train_on=source, **{"training.steps": 8})
    assert (len(data[1].images.reads), len(data[2].reads)) == (real, generated)


QUESTIONS = [
    Question("1", square(1, 2), "What color?", ("red", "blue"), ("A",), "", "ink"),
    Question("2", None, "How many?", ("one", "two", "three", "four"), ("B",), "Think.", "size"),
    Question("3", square(3, 4), "Which?", ("<image 1>", "<image 2>"), ("B",), "", "size"),
    Question("4", square(5, 6), "What number?", (), ("7",), "", "number"),
]


@pytest.mark.parametrize(("name", "folder"), [("llava_1_5_7b", "llava"), ("clip_llama_3_8b", "llama_3")])
@pytest.mark.parametrize("steps", [0, 2])
def test_published_and_trained_models_are_measured(steps, name, folder, folders, data, tmp_path):
    student = make_student(folders, tmp_path / "student")
    own = {"model": name, "model_path": str(folders / folder), "training.steps": steps}
    stored, history = train(folders, data, student, tmp_path, **own)
    assert len(history) == steps and bool(stored) == bool(steps)
    inputs = (data[1], QUESTIONS[:1], QUESTIONS, student, params(folders, **own), EVALUATION, run_params(folders))
    predictions = answer_prompts(tmp_path / "model", *inputs)
    assert [row["image_id"] for row in predictions["captions"]] == ["8", "9"]
    texts = {row["question_id"]: row["text"] for row in predictions["mmmu"]}
    assert texts["3"] is None and all(isinstance(texts[key], str) for key in "124")
    assert predictions["scienceqa"][0]["prompt"].startswith("Context: N/A\nQuestion: What color?\nOptions: (A) red")
    scores, items = score_answers(json.loads(json.dumps(predictions)), *inputs[:4], tmp_path / "vectors", *inputs[4:])
    assert scores["scienceqa"]["scores"]["chance"] == 50.0
    for (group, measure), rows in items.groupby(["group", "measure"]):
        assert rows["value"].mean() == pytest.approx(scores[group]["intervals"][measure]["mean"]), measure
    assert {"captioning", "scienceqa", "mmmu"} == set(items["group"])
    assert scores["mmmu"]["scores"]["chance"] == pytest.approx((50 + 25 + 50 + 100) / 4)
    assert scores["mmmu"]["by_subject"]["size"]["question_count"] == 2
    assert "needs word vectors" in scores["captioning"]["unavailable"]["wmd"]
    assert scores["captioning"]["scores"]["cider"] >= 0 and scores["protocol"]["steps"] == steps
    for benchmark in ("scienceqa", "mmmu"):
        interval = scores[benchmark]["intervals"]["accuracy"]
        assert interval["low"] <= scores[benchmark]["scores"]["accuracy"] <= interval["high"]


def test_a_source_that_says_what_it_holds_is_not_seen_by_the_other_route(folders, data, tmp_path):
    student = make_student(folders, tmp_path / "student")
    data[2].modality = "real"  # real images where generated images belong
    with pytest.raises(RouteError, match="A real image was given to the vision tower of generated images"):
        train(folders, data, student, tmp_path / "work")


def test_right_answers_are_counted(folders, data, tmp_path):
    student = make_student(folders, tmp_path / "student")
    predictions = {
        "captions": [{"image_id": "8", "text": "a 8"}, {"image_id": "9", "text": "a 9"}],
        "scienceqa": [{"question_id": "1", "text": "A"}],
        "mmmu": [
            {"question_id": "1", "text": "(B)"},
            {"question_id": "2", "text": "B"},
            {"question_id": "4", "text": "7."},
        ],
    }
    mmmu = [question for question in QUESTIONS if question.question_id != "3"]
    inputs = (data[1], QUESTIONS[:1], mmmu, student, params(folders), EVALUATION, run_params(folders))
    scores, items = score_answers(predictions, *inputs[:4], tmp_path / "vectors", *inputs[4:])
    assert scores["scienceqa"]["scores"]["accuracy"] == 100.0
    assert scores["mmmu"]["scores"]["accuracy"] == pytest.approx(200 / 3)
    right = items[items["group"] == "mmmu"].set_index("image_id")["value"]
    assert right.to_dict() == {"1": 0.0, "2": 100.0, "4": 100.0}
    assert {name: facts["accuracy"] for name, facts in scores["mmmu"]["by_subject"].items()} == {
        "ink": 0.0, "size": 100.0, "number": 100.0,
    }  # fmt: skip


def test_an_encoder_that_llava_cannot_see_with_is_refused_before_any_work(folders):
    run = RunParams(
        seed=0, device="cpu", precision="float32", encoder="mini_clip",
        encoder_path=None, image_batch_size=4, engine="local",
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"run\.encoder must be a CLIP vision tower .* Got 'mini_clip'"):
        check_models({"run": run, "vision_language": params(folders)})
    with pytest.raises(ValueError, match="no vision-language model 'llava_9'"):
        check_models({"run": run_params(folders), "vision_language": params(folders, model="llava_9", model_path=None)})
    check_models({"run": run_params(folders), "vision_language": params(folders)})
