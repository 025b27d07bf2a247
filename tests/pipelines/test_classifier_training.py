"""Fine-tuning by SynCLR's recipe: the mini SynCLR on images that are dark or bright."""

import io
import math
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.interfaces import ClassificationTask, LabelledImages, TrainingSplits
from gmail_kedro.models.encoders.classifier import (
    Classifiers,
    build_classifier,
    layer_groups,
    load_classifier,
    measuring_transform,
    training_transform,
)
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.params.base import ParameterError
from gmail_kedro.params.fine_tuning import FineTuningParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.classification.classifier_training import (
    ClassifierImages,
    FineTuningStep,
    fine_tune_on,
    load_batches,
    plan_fine_tuning,
    predict_classes,
    seeded,
)

RUN = RunParams(
    seed=0,
    device="cpu",
    precision="float32",
    encoder="mini_synclr",
    encoder_path=None,
    image_batch_size=6,
    engine="local",
)
CHANGES = {
    "sets": ["light"], "epochs": 10, "warmup_epochs": 1, "batch_size": 8, "micro_batch_size": 4, "ema_decay": 0.8,
    "base_learning_rate": 0.1, "checkpoint_every": 3,
}  # fmt: skip


class Shades:
    """Noise around a shade of grey; the key says which."""

    modality = "real"

    def read(self, key):
        shade, number = key.split("_")
        noise = np.random.default_rng(int(number)).normal(0, 20, (40, 48, 3))
        image = io.BytesIO()
        Image.fromarray(np.clip(int(shade) + noise, 0, 255).astype(np.uint8)).save(image, "PNG")
        return image.getvalue()


def labels_of(start, count):
    return {f"{(70, 190)[number % 2]}_{number}": number % 2 for number in range(start, start + count)}


@pytest.fixture
def light():
    splits = TrainingSplits(Shades(), {"train": labels_of(0, 12), "val": labels_of(100, 5)})
    task = ClassificationTask(["dark", "bright"], ["a {} picture"], labels_of(200, 8))
    return LabelledImages("light", Shades(), task, "acc1", lambda: splits)


@pytest.fixture(scope="module")
def base(repository):
    return yaml.safe_load((repository / "conf/base/parameters_fine_tuning.yml").read_text())["fine_tuning"]


@pytest.fixture
def params(base):
    return FineTuningParams(**{**base, **CHANGES})


def encoder():
    return build_encoder("mini_synclr", None, device=torch.device("cpu"))


def test_loss_falls_and_the_average_tells_the_classes(light, params, tmp_path):
    state, history = fine_tune_on(light, encoder(), Checkpoints(tmp_path), params, RUN)
    assert list(history["step"]) == list(range(20))  # of 17 images, two steps of eight an epoch
    assert history["loss"].iloc[0] == pytest.approx(math.log(2), abs=1e-3)  # the head starts near zero
    assert history["loss"].iloc[-5:].mean() < history["loss"].iloc[:5].mean() - 0.05
    kept = encoder()
    Classifiers({"light": state}, {"light": 2}, kept.fingerprint).save_pretrained(tmp_path / "stored")
    model = load_classifier(kept, tmp_path / "stored", "light", 2)
    assert list(predict_classes(model, kept, light, params, RUN)) == list(light.task.labels.values())


def test_a_run_that_was_stopped_goes_on_to_the_same_bits(light, params, tmp_path, monkeypatch):
    params = params.replace(epochs=4, random_erasing=0.9)
    straight, history = fine_tune_on(light, encoder(), Checkpoints(tmp_path / "straight"), params, RUN)
    take = FineTuningStep.__call__

    def stop(self, index):
        if index == 4:
            raise KeyboardInterrupt
        return take(self, index)

    monkeypatch.setattr(FineTuningStep, "__call__", stop)
    with pytest.raises(KeyboardInterrupt):
        fine_tune_on(light, encoder(), Checkpoints(tmp_path / "stopped"), params, RUN)
    monkeypatch.undo()
    torch.rand(5), np.random.rand(5)  # what else is drawn meanwhile does not matter
    resumed, rows = fine_tune_on(light, encoder(), Checkpoints(tmp_path / "stopped"), params, RUN)
    pd.testing.assert_series_equal(rows["loss"], history["loss"], check_exact=True)
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_a_finished_state_is_not_trained_again_and_a_foreign_one_is_refused(light, params, tmp_path):
    params = params.replace(epochs=2)
    first, _ = fine_tune_on(light, encoder(), Checkpoints(tmp_path), params, RUN)
    again, rows = fine_tune_on(light, encoder(), Checkpoints(tmp_path), params.replace(loader_workers=1), RUN)
    assert len(rows) == 4 and all(torch.equal(first[name], again[name]) for name in first)
    with pytest.raises(ValueError, match="belongs to another run: fine_tuning.mixup was '0.8' and is now '0.5'"):
        fine_tune_on(light, encoder(), Checkpoints(tmp_path), params.replace(mixup=0.5), RUN)


def test_workers_change_nothing(light, params):
    images = ClassifierImages(Shades(), labels_of(0, 6), training_transform(encoder(), params), seed=3)
    places = [[(0, 0), (0, 5)], [(1, 2), (1, 0)]]
    alone, shared = (list(load_batches(images, places, workers=count)) for count in (0, 2))
    assert all(torch.equal(a, b) for one, two in zip(alone, shared, strict=True) for a, b in zip(one, two, strict=True))
    assert not torch.equal(alone[0][0][0], alone[1][0][1])  # the same image, cut and erased anew in another step
    assert [list(labels) for _, labels in alone] == [[0, 1], [0, 0]]


def test_images_are_read_when_their_batch_is_due(params):
    class Counting(Shades):
        read_count = 0

        def read(self, key):
            Counting.read_count += 1
            return super().read(key)

    images = ClassifierImages(Counting(), labels_of(0, 100), measuring_transform(encoder(), params), seed=0)
    batches = load_batches(images, ([(0, row), (0, row + 1)] for row in range(0, 100, 2)), workers=0)
    assert len(list(islice(batches, 3))) == 3 and Counting.read_count == 6


def test_a_seed_is_for_its_body_alone():
    torch.manual_seed(1)
    np.random.seed(1)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(1)
    np.random.seed(1)
    with seeded(0, 7, 3):
        inside = torch.rand(1), np.random.rand()
    assert (torch.rand(1), np.random.rand()) == expected
    with seeded(0, 7, 3):
        assert (torch.rand(1), np.random.rand()) == inside
    with seeded(0, 7, 4):
        assert (torch.rand(1), np.random.rand()) != inside


def test_the_recipe_is_synclrs(repository, base):
    paper = yaml.safe_load((repository / "conf/paper/parameters_fine_tuning.yml").read_text())["fine_tuning"]
    params = FineTuningParams(**{**base, **paper, "sets": ["imagenet"]})
    training, floor = plan_fine_tuning(1_281_167, params)
    assert (training.steps, training.warmup_steps) == (100 * 1251, 20 * 1251)
    assert training.learning_rate == pytest.approx(2e-4) and training.learning_rate * floor == pytest.approx(1e-6)
    assert (training.weight_decay, training.schedule) == (0.05, "cosine") and training.clip_norm > 1e300
    found = {name: getattr(params, name) for name in RECIPE}
    assert found == RECIPE


RECIPE = {
    "layer_decay": 0.65, "drop_path": 0.1, "random_erasing": 0.25, "mixup": 0.8, "cutmix": 1.0, "ema_decay": 0.9999,
    "label_smoothing": 0.1, "auto_augment": "rand-m9-mstd0.5-inc1", "flip": 0.5, "crop_share": 0.95,
}  # fmt: skip


def test_earlier_blocks_learn_slower_and_biases_do_not_decay(params):
    model = build_classifier(encoder(), 3, drop_path=0.1, seed=0)
    groups = layer_groups(model, params, learning_rate=1.0)
    rates = {id(parameter): group for group in groups for parameter in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert rates[id(model.head.weight)]["lr"] == 1.0
    blocks = [rates[id(block.attn.qkv.weight)]["lr"] for block in model.blocks]
    assert np.allclose(np.array(blocks[:-1]) / blocks[1:], params.layer_decay)
    assert rates[id(model.cls_token)]["lr"] == pytest.approx(blocks[0] * params.layer_decay)
    assert {rates[id(part)]["weight_decay"] for part in (model.head.bias, model.cls_token, model.pos_embed)} == {0}
    assert rates[id(model.head.weight)]["weight_decay"] == params.weight_decay
    drops = [block.drop_path1.drop_prob for block in model.blocks]
    assert drops == pytest.approx(np.linspace(0, 0.1, len(drops)))


def test_images_are_measured_as_the_encoder_sees_them(params):
    """Size and normalisation are the encoder's own; on a flat image the resampling cannot differ."""
    teacher, image = encoder(), Image.new("RGB", (300, 200), (30, 90, 200))
    torch.testing.assert_close(measuring_transform(teacher, params)(image), teacher.preprocess(image))


def test_only_a_vision_only_encoder_is_fine_tuned():
    teacher = build_encoder("mini_clip", None, device=torch.device("cpu"))
    with pytest.raises(ValueError, match="Only a vision-only encoder .* Got 'mini_clip' instead. Set fine_tuning.sets"):
        build_classifier(teacher, 2, drop_path=0.0, seed=0)


def test_a_classifier_belongs_to_its_route_and_classes(light, tmp_path):
    teacher = encoder()
    save = partial(Classifiers, {"light": build_classifier(encoder(), 2, drop_path=0.0, seed=0).state_dict()})
    save({"light": 2}, teacher.fingerprint).save_pretrained(tmp_path / "own")
    load_classifier(encoder(), tmp_path / "own", "light", 2)
    with pytest.raises(ValueError, match="on another number of classes than 3. Fine-tune again: kedro run"):
        load_classifier(teacher, tmp_path / "own", "light", 3)
    save({"light": 2}, "other").save_pretrained(tmp_path / "other")
    with pytest.raises(ValueError, match="from another real route of 'mini_synclr'"):
        load_classifier(teacher, tmp_path / "other", "light", 2)
    for folder in ("own", "nowhere"):
        with pytest.raises(MissingWeightsError, match="no classifier for 'shape' at .*--pipeline=fine_tuning"):
            load_classifier(teacher, tmp_path / folder, "shape", 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup_epochs": 10}, "warmup_epochs must be less than epochs"),
        ({"micro_batch_size": 7}, "micro_batch_size must be an even number"),
        ({"min_learning_rate": 1.0}, "min_learning_rate must be base_learning_rate or less"),
        ({"ema_decay": 1.0}, "ema_decay must be less than 1"),
    ],
)
def test_a_recipe_that_contradicts_itself_is_refused(params, changes, message):
    with pytest.raises(ParameterError, match=f"fine_tuning.{message}"):
        params.replace(**changes)
