"""The alignment step with the real mini CLIP: cached equals online, parts equal the whole, each option does its job."""

from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from kedro.config import OmegaConfigLoader
from PIL import Image

from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.engine.inference import Encoding, FeatureStore, encode_images, encode_texts
from gmail_kedro.method.alignment import alignment_loss
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.params.alignment import AlignmentParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.alignment.alignment_step import AlignmentStep, needs_text, teacher_views
from gmail_kedro.pipelines.alignment.nodes import align, aligned_rows, build_student, load_data
from gmail_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
PAIRS, REAL_IMAGES = 18, 6
BASE = OmegaConfigLoader(str(ROOT / "conf"), env="base", **CONFIG_LOADER_ARGS)["parameters"]
RUN = RunParams(**{**BASE["run"], "precision": "float32"})
EQ1 = AlignmentParams(**BASE["alignment"]).replace(
    moment_weight=0.0, **{"training.batch_size": 10, "training.steps": 4}
)
SHARED = {"topology": "shared", "real_path": "lora_proj", "projection": "linear"}
TEXTS = {"generated_text_weight": 1.0, "real_text_weight": 1.0}


class NoiseImages:
    """Smooth random JPEGs by key, counted as they are read."""

    def __init__(self, seed: int) -> None:
        self.seed, self.read_count = seed, 0

    def read(self, key: str) -> bytes:
        self.read_count += 1
        rng = np.random.default_rng((self.seed, int(key)))
        drawn = Image.fromarray(rng.integers(0, 255, (4, 4, 3), dtype=np.uint8)).resize((32, 32))
        stream = BytesIO()
        drawn.save(stream, "JPEG", quality=95)
        return stream.getvalue()


@pytest.fixture(scope="module")
def pairs() -> pd.DataFrame:
    images = [str(number % REAL_IMAGES) for number in range(PAIRS)]
    return pd.DataFrame(
        {
            "image_id": images,
            "caption": [f"a red {number} on paper" for number in range(PAIRS)],
            "real_key": images,
            "generated_key": [str(number) for number in range(PAIRS)],
            "split": ["val" if image == "5" else "train" for image in images],
        }
    )


@pytest.fixture
def world(pairs, tmp_path):
    """Builds a step from parameters, as the node does."""

    def build(params: AlignmentParams, **moved) -> SimpleNamespace:
        corpus, generated = SimpleNamespace(images=NoiseImages(1)), NoiseImages(2)
        teacher = build_encoder("mini_clip", None, device=CPU)
        encoding = Encoding(FeatureStore(tmp_path), 8, CPU, "float32")
        features = {
            view: encode_images(teacher, corpus.images, list(pairs["real_key"]), encoding, view=view)
            for view in teacher_views(params)
        }
        if needs_text(params):
            features["text"] = encode_texts(teacher, list(pairs["caption"]), encoding)
        corpus.images.read_count = 0
        student = build_student(params, RUN, device=CPU)
        rng = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
        data = load_data(student, pairs, corpus, generated, features, params, device=CPU)
        step = AlignmentStep(student, data, params, seed=0, device=CPU)
        return SimpleNamespace(
            step=step, student=student, objective=step.objective, data=data, corpus=corpus, teacher=teacher
        )

    return build


def gradients(built, index=0):
    """Runs one step and returns its loss and all gradients, in float64 for comparison."""
    losses = built.step(index)
    if losses["loss"].requires_grad:
        losses["loss"].backward()
    learned = [*built.student.parameters(), *built.objective.trainable_parameters()]
    found = [parameter.grad.detach().clone().double() for parameter in learned]
    for parameter in learned:
        parameter.grad = None
    return float(losses["loss"].detach()), found


def assert_close(first, second, tolerance=1e-6):
    assert first[0] == pytest.approx(second[0], rel=1e-5, abs=1e-5)
    scale = max(float(gradient.abs().max()) for gradient in first[1])
    for left, right in zip(first[1], second[1], strict=True):
        assert torch.allclose(left, right, atol=tolerance * max(1.0, scale), rtol=0)


@pytest.mark.reliability(17)
def test_cached_loss_equals_the_online_loss(world):
    """Algorithm 1 as printed: both towers on the batch's own images, no cache anywhere."""
    built = world(EQ1)
    rows = built.step._batch(0)
    with torch.no_grad():
        real = built.teacher.encode_image(built.data.real[rows])
    generated = built.student.encoder.encode_image(built.data.generated[rows])
    ids = torch.from_numpy(built.data.image_ids[rows])
    online = alignment_loss(generated, real, temperature=0.07, same_image=ids[:, None] == ids[None])
    assert float(built.step(0)["loss"].detach()) == pytest.approx(float(online.detach()), abs=1e-5)


def test_the_frozen_teacher_is_computed_once_and_no_real_image_is_decoded_in_training(world):
    built = world(EQ1)
    for index in range(4):
        gradients(built, index)
    assert built.corpus.images.read_count == 0


OPTIONS = {
    "eq1": {},
    "queue": {"negatives": "queue", "queue_size": 3},
    "cache": {"negatives": "cache"},
    "patches": {"level": "both"},
    "sigmoid": {"align_form": "sigmoid"},
    "cosine": {"align_form": "cosine"},
    "learned_temperature": {"learn_temperature": True},
    "preservation": {"preservation_weight": 1.0},
    "proj": {"projection": "residual", "real_path": "proj", "stop_gradient_real": False},
    "symmetric": {"direction": "symmetric"},
    "moments": {"moment_weight": 50.0, "moment_form": "mean_covariance"},
    "whitened": {"moment_weight": 1.0},
    "mmd": {"moment_weight": 1.0, "moment_form": "mmd"},
    "text": {"generated_text_weight": 1.0},
    "tuned_text": {"generated_text_weight": 1.0, "tune_text": True},
    "dual": {**SHARED, **TEXTS},
    "dual_moving_targets": {**SHARED, **TEXTS, "stop_gradient_real": False},
}


@pytest.mark.parametrize("size", [3, 5])
@pytest.mark.parametrize("name", OPTIONS)
def test_micro_batches_give_the_whole_batchs_gradient(world, name, size):
    params = EQ1.replace(**OPTIONS[name])
    assert_close(
        gradients(world(params)), gradients(world(params.replace(**{"training.micro_batch_size": size}))), 1e-5
    )


@pytest.mark.parametrize("name", ["eq1", "queue", "cache", "patches", "sigmoid", "cosine", "preservation"])
def test_what_is_separable_needs_one_forward_pass(world, name):
    built = world(EQ1.replace(**OPTIONS[name], **{"training.micro_batch_size": 3}))
    seen = []
    built.student.encoder.image_tower.register_forward_hook(lambda *_: seen.append(1))
    built.step(0)
    parts = 4 if name != "preservation" else 8  # generated and real images, each once
    assert built.objective.is_separable and len(seen) == parts


def test_micro_batches_are_exact_in_float64(pairs, world):
    built, split = world(EQ1), world(EQ1.replace(**{"training.micro_batch_size": 3}))
    for each in (built, split):
        each.student.encoder.image_tower.double()
        each.student.encoder.projection = each.student.encoder.projection.double()
        each.data.generated._kept.update(
            {key: each.data.generated._load(int(key)).double() for key in pairs["generated_key"]}
        )
        each.step._student.project = lambda pooled, route, student=each.student: student.encoder.project(pooled)
        each.step._project = lambda features, route, step=each.step: {route: step._student.project(features[0], route)}
        each.objective._teacher["embedding"] = each.objective._teacher["embedding"].double()
        each.objective.double()
    assert_close(gradients(built), gradients(split), 1e-12)


@pytest.mark.parametrize("blocks", [None, 1, 3])
def test_the_cached_prefix_changes_nothing(world, blocks):
    params = EQ1.replace(**{"lora.blocks": blocks})
    assert_close(gradients(world(params)), gradients(world(params.replace(cache_prefix=True))), 1e-6)


def test_recomputed_activations_change_nothing(world):
    assert_close(
        gradients(world(EQ1)), gradients(world(EQ1.replace(**{"training.checkpoint_activations": True}))), 1e-6
    )


def test_compiled_kernels_change_nothing_but_the_rounding(world):
    assert_close(gradients(world(EQ1)), gradients(world(EQ1.replace(compile=True))), 1e-5)


def test_without_a_compiler_nothing_is_begun(world, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler; there is no no-such-compiler on the PATH"):
        world(EQ1.replace(compile=True))


def test_negatives_never_show_the_positives_real_image(world):
    built = world(EQ1.replace(negatives="cache"))
    assert sorted(built.data.image_ids[built.step._negatives(0)]) == [0, 1, 2, 3, 4]
    rows = built.step._batch(0)
    ids = built.data.image_ids
    candidates = np.concatenate([rows, built.step._negatives(0)])
    real = built.data.teacher["embedding"]
    generated = built.step.embed(rows)["generated"].detach()
    unit = torch.nn.functional.normalize
    total = 0.0
    for position, row in enumerate(rows):
        scores = (unit(generated[position], dim=0) @ unit(real[candidates], dim=-1).T) / 0.07
        kept = [j for j, other in enumerate(candidates) if j == position or ids[other] != ids[row]]
        total -= float(scores[position] - torch.logsumexp(scores[kept], dim=0))
    assert float(built.step(0)["loss"].detach()) == pytest.approx(total / len(rows), abs=1e-4)


def test_the_queue_holds_the_last_real_images_each_once_whatever_came_before(world):
    built = world(EQ1.replace(negatives="queue", queue_size=3))
    assert len(built.step._negatives(0)) == 0
    queue = built.step._negatives(2)
    ids = built.data.image_ids[queue]
    assert len(set(ids)) == len(queue) == 3
    assert set(queue) <= set(built.step._batch(1)) | set(built.step._batch(0))
    assert np.array_equal(queue, world(EQ1.replace(negatives="queue", queue_size=3)).step._negatives(2))


def test_a_queue_larger_than_the_world_does_not_walk_back_to_the_first_step(world, monkeypatch):
    built = world(EQ1.replace(negatives="queue", queue_size=1000))
    seen, batch = [], built.step._batch
    monkeypatch.setattr(built.step, "_batch", lambda index: seen.append(index) or batch(index))
    assert len(built.step._negatives(5000)) == REAL_IMAGES - 1  # all of the training split
    assert len(seen) <= 4


def test_unique_per_batch_never_draws_a_real_image_twice_and_visits_all(world):
    built = world(EQ1.replace(same_image="unique_per_batch", **{"training.batch_size": 5}))
    for index in range(5):
        ids = built.data.image_ids[built.step._batch(index)]
        assert sorted(ids) == [0, 1, 2, 3, 4]
    drawn = {row for index in range(30) for row in built.step._batch(index)}
    assert drawn == set(built.data.train_rows)


@pytest.mark.parametrize("stop", [True, False])
def test_stop_gradient_decides_whether_eq1_moves_the_real_head(world, stop):
    params = EQ1.replace(**SHARED, stop_gradient_real=stop)
    built = world(params)
    built.step(0)["loss"].backward()
    moved = built.student.heads.real.weight.grad is not None
    assert moved is not stop
    assert built.student.heads.generated.weight.grad is not None


def test_validation_looks_at_held_out_pairs_without_dropout_or_gradient(world):
    built = world(EQ1.replace(**{"lora.dropout": 0.5, "training.validate_every": 1}))
    built.student.train()
    assert built.step.validate() == built.step.validate()
    assert built.student.encoder.image_tower.training
    assert set(built.data.image_ids[built.data.val_rows]) == {5}


def test_dropout_is_a_function_of_seed_and_step_whatever_else_the_process_draws(pairs, tmp_path):
    corpus, generated = SimpleNamespace(images=NoiseImages(1)), NoiseImages(2)
    generated.identity = {"name": "test", "fingerprint": "f", "gate": "none"}
    encoding = Encoding(FeatureStore(tmp_path), 8, CPU, "float32")
    teacher = build_encoder("mini_clip", None, device=CPU)
    features = {"embedding": encode_images(teacher, corpus.images, list(pairs["real_key"]), encoding)}

    def train(name: str, **changes: float) -> list[torch.Tensor]:
        params = EQ1.replace(**{"training.steps": 2} | changes)
        student, _, _ = align(pairs, corpus, generated, features, Checkpoints(tmp_path / name), params, RUN)
        return [parameter.detach().clone() for parameter in student.parameters()]

    def equal(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
        return all(torch.equal(left, right) for left, right in zip(first, second, strict=True))

    without = train("without")
    for option in ("lora.dropout", "patch_dropout"):
        first = train(f"{option}_first", **{option: 0.5})
        torch.rand(3)
        assert equal(train(f"{option}_second", **{option: 0.5}), first) and not equal(first, without)


def test_patch_dropout_is_for_training_alone(world):
    built = world(EQ1.replace(patch_dropout=0.5))
    built.student.train()
    read = built.data.generated[[0, 1]]
    assert built.student.encoder.pool_image(read)[1].shape[1] == 32
    built.student.train(False)
    assert built.student.encoder.pool_image(read)[1].shape[1] == 64


def test_few_real_images_are_the_first_of_the_training_split_with_all_their_pairs(pairs):
    assert set(pairs["split"][aligned_rows(pairs, EQ1)]) == {"train"}
    rows = aligned_rows(pairs, EQ1.replace(photograph_count=2))
    first = list(dict.fromkeys(pairs["image_id"][pairs["split"] == "train"]))[:2]
    assert list(rows) == list(np.flatnonzero(pairs["image_id"].isin(first)))
