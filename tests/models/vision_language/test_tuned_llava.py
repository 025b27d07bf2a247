"""Training in a LLaVA: what learns, what stays, and that stored training computes what the trained model did."""

import json

import pytest
import torch
from safetensors import safe_open

from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.fingerprints import CHECKSUMS_FILE, finish_folder
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.vision_language.chat import Turn
from gmail_kedro.models.vision_language.known_vision_language_models import LlavaSettings, build_vision_language_model
from gmail_kedro.models.vision_language.tuned_llava import PROJECTOR_FILE, RECIPE_FILE, TunedLlava, load_tuned_llava
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures
from gmail_kedro.models.vision_language.vision_towers import VisionTower
from gmail_kedro.models.weight_sources import MissingWeightsError

from ...precision import assert_equal_but_rounding
from ..tiny import promising_nothing
from ..tiny_llava import save_llama_3, save_llava, save_tower

CPU = torch.device("cpu")
LORA = TuningSpec(kind="lora", rank=2, alpha=4, dropout=0.0, targets=("q_proj", "down_proj"))
TOKENS = torch.randn(2, 4, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing("clip_vision_l_14_336", "llava_1_5_7b", "llama_3_8b_instruct", "llama_3_8b", "vicuna_7b"):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("tuned")
    save_llava(root / "llava", save_tower(root / "tower"))
    save_llama_3(root / "llama_3")
    return root


def build(folders, name="llava_1_5_7b", folder="llava", *, seed=0):
    encoder = build_encoder("clip_vision_l_14_336", str(folders / "tower"), device=CPU)
    settings = LlavaSettings("float32", VisionFeatures(-2, "default"), "auto", seed)
    return build_vision_language_model(name, str(folders / folder), encoder=encoder, settings=settings, device=CPU)


def towers_of(model):
    return {route: VisionTower(model.vision_tower, route, model.vision_features) for route in ("generated", "real")}


def loss_of(model):
    turns = ([Turn("What color?", "red")], [Turn("What is it?", "a 7 on lined paper")])
    return model.loss_sum(TOKENS, model.batch([model.chat.encode(turn, with_image=True) for turn in turns]))


def train(model, spec=LORA, *, train_projector=True, steps=3):
    tuned = TunedLlava(model, spec, towers_of(model), train_projector=train_projector, seed=0)
    groups = tuned.groups(learning_rate=0.05, projector_learning_rate=0.02)
    optimizer = torch.optim.AdamW(groups)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    return tuned, groups


@pytest.mark.reliability(21)
def test_adapters_and_projector_learn_and_nothing_else(folders):
    model = build(folders)
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    first = float(loss_of(model))
    _, groups = train(model)
    assert [group["lr"] for group in groups] == [0.05, 0.02]
    assert all(parameter.grad is not None for group in groups for parameter in group["params"])
    assert float(loss_of(model)) < first
    after = {
        key.replace("base_model.model.", "").replace(".base_layer", ""): value
        for key, value in model.model.state_dict().items()
    }
    moved = {key for key, value in before.items() if not torch.equal(value, after[key])}
    assert moved == {key for key in before if "multi_modal_projector" in key}


@pytest.mark.parametrize(("name", "folder"), [("llava_1_5_7b", "llava"), ("clip_llama_3_8b", "llama_3")])
def test_stored_training_computes_what_the_trained_model_did(name, folder, folders, tmp_path):
    model = build(folders, name, folder)
    tuned, _ = train(model)
    tuned.save_pretrained(tmp_path / "tuned")
    assert {"adapter_model.safetensors", "adapter_config.json", PROJECTOR_FILE, RECIPE_FILE} <= {
        path.name for path in (tmp_path / "tuned").iterdir()
    }
    again = build(folders, name, folder)
    untrained = float(loss_of(again))
    load_tuned_llava(again, tmp_path / "tuned", towers_of(again)["real"])
    assert float(loss_of(again)) == pytest.approx(float(loss_of(model)), abs=1e-4)
    assert abs(float(loss_of(again)) - untrained) > 0.1
    assert again.write(TOKENS, ["What?"] * 2, max_tokens=5) == model.write(TOKENS, ["What?"] * 2, max_tokens=5)


def test_without_training_the_model_is_as_published(folders, tmp_path):
    model = build(folders)
    wanted = loss_of(model)
    spec = TuningSpec(kind="none", rank=0, alpha=1, dropout=0.0, targets=("q_proj",))
    TunedLlava(model, spec, towers_of(model), train_projector=False, seed=0).save_pretrained(tmp_path / "tuned")
    assert {path.name for path in (tmp_path / "tuned").iterdir()} == {RECIPE_FILE, CHECKSUMS_FILE}
    again = build(folders)
    load_tuned_llava(again, tmp_path / "tuned", towers_of(again)["real"])
    assert torch.equal(loss_of(again), wanted)


def test_training_of_another_model_or_tower_or_with_lost_files_is_refused(folders, tmp_path):
    model = build(folders, "clip_llama_3_8b", "llama_3")
    tuned, _ = train(model, steps=1)
    folder = tmp_path / "tuned"
    tuned.save_pretrained(folder)
    other = build(folders, "clip_llama_3_8b", "llama_3", seed=1)  # another projector to start from
    with pytest.raises(ValueError, match=r"belongs to 'clip_llama_3_8b' with the hash .*run\.seed"):
        load_tuned_llava(other, folder, towers_of(other)["real"])
    again = build(folders, "clip_llama_3_8b", "llama_3")
    recipe = json.loads((folder / RECIPE_FILE).read_text())
    finish_folder(folder, RECIPE_FILE, recipe | {"towers": {"real": "0" * 64, "generated": "0" * 64}})
    with pytest.raises(ValueError, match="beside a tower of real images with the hash 000000000000"):
        load_tuned_llava(again, folder, towers_of(again)["real"])
    finish_folder(folder, RECIPE_FILE, recipe)
    (folder / PROJECTOR_FILE).unlink()
    with pytest.raises(MissingWeightsError, match="There is no projector.safetensors"):
        load_tuned_llava(again, folder, towers_of(again)["real"])
    with pytest.raises(MissingWeightsError, match=r"no tuned vision-language model at .*vision_language\.json"):
        load_tuned_llava(again, tmp_path / "nowhere", towers_of(again)["real"])


def test_unknown_targets_are_refused(folders):
    spec = TuningSpec(kind="lora", rank=2, alpha=4, dropout=0.0, targets=("q_proj", "c_attn"))
    model = build(folders)
    with pytest.raises(ValueError, match=r"\['c_attn'\] are not in 'llava_1_5_7b'.*Set vision_language.lora.targets\."):
        TunedLlava(model, spec, towers_of(model), train_projector=True, seed=0)


def test_activations_are_computed_again_with_the_same_gradient(folders):
    gradients = []
    for again in (False, True):
        model = build(folders)
        tuned = TunedLlava(model, LORA, towers_of(model), train_projector=True, seed=0)
        if again:
            tuned.checkpoint_activations()
        model.train()
        with fast_arithmetic(CPU, precision="float32"):  # as the training loop does, with its own attention kernel
            loss_of(model).backward()
        gradients.append(
            [p.grad for g in tuned.groups(learning_rate=1, projector_learning_rate=1) for p in g["params"]]
        )
    for first, second in zip(*gradients, strict=True):
        assert_equal_but_rounding(first, second, steps=256)


def test_nothing_stored_is_a_pickle(folders, tmp_path):
    model = build(folders)
    tuned, _ = train(model, steps=1)
    tuned.save_pretrained(tmp_path / "tuned")
    assert not [path for path in (tmp_path / "tuned").iterdir() if path.suffix in (".bin", ".pt", ".pkl")]
    with safe_open(tmp_path / "tuned" / PROJECTOR_FILE, "pt") as stored:
        assert set(stored.keys()) == {f"linear_{i}.{part}" for i in (1, 2) for part in ("weight", "bias")}
