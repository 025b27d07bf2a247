"""The eight classification sets in their true layouts through the nodes that measure them."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from gmail_kedro.corpora.classification_sets import CLASS_SETS, Division, read_class_set
from gmail_kedro.engine import inference
from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.evaluation.benchmark import real_route
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.student.student import StoredStudent, StudentSpec
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.fine_tuning import FineTuningParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.classification import nodes

from ..corpora.class_set_files import COPIES, LISTINGS, TRAINED

CLIP = RunParams(
    seed=0,
    device="cpu",
    precision="float32",
    encoder="mini_clip",
    encoder_path=None,
    image_batch_size=4,
    engine="local",
)
SYNCLR = CLIP.replace(encoder="mini_synclr")
CORPUS = SimpleNamespace(name="coco", labels={})
NO_MAP = SimpleNamespace(kind="none")
SHORT = {
    "epochs": 2, "warmup_epochs": 0, "batch_size": 4, "micro_batch_size": 2, "ema_decay": 0.5,
}  # fmt: skip


@pytest.fixture(scope="module")
def groups(repository):
    names = ("evaluation", "fine_tuning")
    return {name: yaml.safe_load((repository / f"conf/base/parameters_{name}.yml").read_text())[name] for name in names}


@pytest.fixture
def evaluation(groups):
    return lambda **changes: EvaluationParams(**{**groups["evaluation"], "bootstrap_count": 20, **changes})


@pytest.fixture
def fine_tuning(groups):
    return lambda *sets: FineTuningParams(**{**groups["fine_tuning"], **SHORT, "sets": list(sets)})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """All eight sets in one folder, each image of its own."""
    folder = tmp_path_factory.mktemp("raw")
    for write in COPIES.values():
        write(folder, b"")
    image_files = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in (".jpg", ".jpeg")]
    for number, path in enumerate(image_files):
        noise = np.random.default_rng(number).integers(0, 255, (3, 4, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((60, 44)).save(path, "JPEG")
    return folder


@pytest.fixture
def class_sets(root):
    divisions = {"caltech101": Division(train_per_class=2), "sun397": Division(*map(root.joinpath, LISTINGS.values()))}

    def reader(name):
        return lambda: read_class_set(name, root, division=divisions.get(name, Division()), check_counts=False)

    return {name: reader(name) for name in CLASS_SETS}


def untuned(run):
    """A student in which nothing is tuned: its real route is the encoder as it is."""
    teacher, none = build_encoder(run.encoder, None, device=torch.device("cpu")), TuningSpec("none", 1, 1.0, 0.0, ())
    return StoredStudent(None, StudentSpec(none, none, "frozen", "none", False, teacher.fingerprint), "none")


def assert_every_set_is_scored(scores, items, found, prefix=""):
    names = {f"{name}_{measure}" for name in found for measure in ("acc1", "mean_per_class_recall")}
    assert set(scores["scores"]) == names
    assert all(math.isfinite(value) and 0 <= value <= 100 for value in scores["scores"].values())
    assert set(scores["intervals"]) == {f"{name}_acc1" for name in found}
    for name, one in found.items():
        rows = items[items["measure"] == f"{prefix}{name}_acc1"]
        assert list(rows["image_id"]) == list(one.task.labels)
        assert rows["value"].mean() == pytest.approx(scores["scores"][f"{name}_acc1"])


def test_all_eight_are_measured_zero_shot(class_sets, evaluation, tmp_path):
    adapter = untuned(CLIP)
    scores, items = nodes.score_classification(class_sets, CORPUS, adapter, NO_MAP, tmp_path, evaluation(), CLIP)
    found = {name: read() for name, read in class_sets.items()}
    assert_every_set_is_scored(scores, items, found)
    teacher = real_route(adapter, CLIP, torch.device("cpu"))
    encoding = inference.run_encoding(tmp_path / "again", CLIP)
    pets = found["oxford_pets"]
    texts = inference.encode_texts(
        teacher, [f"a photo of a {name}, a type of pet." for name in pets.task.classes], encoding
    )
    images = inference.encode_images(teacher, pets.images, list(pets.task.labels), encoding)
    unit = [torch.nn.functional.normalize(side, dim=1) for side in (images, texts)]
    right = (unit[0] @ unit[1].T).argmax(1).numpy() == list(pets.task.labels.values())
    assert scores["scores"]["oxford_pets_acc1"] == pytest.approx(100 * right.mean())


@pytest.mark.slow
def test_without_texts_all_eight_get_a_linear_probe(class_sets, evaluation, fine_tuning, tmp_path):
    adapter, params = untuned(SYNCLR), evaluation(linear_probe=True)
    zero_shot, nothing = nodes.score_classification(class_sets, CORPUS, adapter, NO_MAP, tmp_path, params, SYNCLR)
    assert zero_shot["unavailable"] == {"all": "the encoder 'mini_synclr' reads no texts"} and nothing.empty
    found = {name: read() for name, read in class_sets.items()}
    scores, items = nodes.score_linear_probe(class_sets, CORPUS, adapter, tmp_path, params, fine_tuning(), SYNCLR)
    assert_every_set_is_scored(scores, items, found, prefix="linear_probe_")
    assert set(scores["weight_decay"]) == set(CLASS_SETS)


def test_one_is_fine_tuned_and_the_others_are_probed(class_sets, evaluation, fine_tuning, tmp_path):
    class_sets = {name: class_sets[name] for name in ("dtd", "imagenet")}
    adapter, params, recipe = untuned(SYNCLR), evaluation(linear_probe=True), fine_tuning("imagenet")
    checkpoints = Checkpoints(tmp_path)
    classifiers, history = nodes.fine_tune(class_sets, CORPUS, adapter, checkpoints, recipe, params, SYNCLR)
    assert set(history["set"]) == {"imagenet"} and len(history) == 2 and TRAINED["imagenet"] == (6, None)
    assert [path.name for path in tmp_path.iterdir()] == ["fine_tuning_imagenet.safetensors"]
    classifiers.save_pretrained(tmp_path / "classifiers")
    scores, items = nodes.score_fine_tuning(
        class_sets, CORPUS, adapter, tmp_path / "classifiers", recipe, params, SYNCLR
    )
    found = {name: read() for name, read in class_sets.items()}
    imagenet = {"imagenet": found.pop("imagenet")}
    assert_every_set_is_scored(scores, items, imagenet, prefix="fine_tuning_")
    probed, rows = nodes.score_linear_probe(class_sets, CORPUS, adapter, tmp_path, params, recipe, SYNCLR)
    assert_every_set_is_scored(probed, rows, found, prefix="linear_probe_")
    together = nodes.collect_class_items(items, rows)
    assert set(together["measure"]) == {*(f"linear_probe_{name}_acc1" for name in found), "fine_tuning_imagenet_acc1"}


def test_generated_images_are_not_fine_tuned_on(class_sets, evaluation, fine_tuning, tmp_path):
    """The real route guard: what classifies real images learns from real images."""
    found = class_sets["dtd"]()
    splits = found.training()
    generated = SimpleNamespace(modality="generated", read=splits.images.read)
    wrong = replace(found, training=lambda: replace(splits, images=generated))
    with pytest.raises(ValueError, match="'mini_synclr' is a student's route of real images. Got generated images"):
        nodes.fine_tune(
            {"dtd": lambda: wrong},
            CORPUS,
            untuned(SYNCLR),
            Checkpoints(tmp_path),
            fine_tuning("dtd"),
            evaluation(),
            SYNCLR,
        )


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [(None, "the corpus 'coco' has no labels, and the catalog no class_sets"), ([], "evaluation.class_sets is empty")],
)
def test_nothing_to_measure_says_why(wanted, reason, evaluation, fine_tuning, tmp_path):
    params = evaluation(class_sets=wanted, linear_probe=True)
    for scores, items in (
        nodes.score_classification({}, CORPUS, None, NO_MAP, tmp_path, params, CLIP),
        nodes.score_linear_probe({}, CORPUS, None, tmp_path, params, fine_tuning(), CLIP),
    ):
        assert scores == {"scores": {}, "intervals": {}, "unavailable": {"all": reason}} and items.empty


def test_a_missing_image_stops_the_measurement(class_sets, evaluation, root, tmp_path):
    """Peers test 25: never a smaller benchmark."""
    gone = root / "oxford-iiit-pet/images/Abyssinian_2.jpg"
    kept = gone.read_bytes()
    gone.unlink()
    try:
        with pytest.raises(FileNotFoundError, match="Abyssinian_2.jpg' should be the file"):
            params = evaluation(class_sets=["oxford_pets"])
            nodes.score_classification(class_sets, CORPUS, untuned(CLIP), NO_MAP, tmp_path, params, CLIP)
    finally:
        gone.write_bytes(kept)
