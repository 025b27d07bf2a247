"""The student's tower in a LLaVA: really there, really another one, and on its own route only."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.student.student import Student, StudentSpec, open_student
from gmail_kedro.models.vision_language.known_vision_language_models import (
    LlavaSettings,
    build_vision_language_model,
    clip_tower_of,
)
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures
from gmail_kedro.models.vision_language.vision_towers import RouteError, put_tower, swap_tower
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import hash_tensors

from ..tiny import promising_nothing
from ..tiny_llava import save_llava, save_tower

CPU = torch.device("cpu")
LORA = TuningSpec(kind="lora", rank=2, alpha=4, dropout=0.0, targets=("q_proj", "fc1"))
NOTHING = replace(LORA, kind="none")
PIXELS = torch.rand(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing("clip_vision_l_14_336", "llava_1_5_7b", "llama_3_8b_instruct", "llama_3_8b", "vicuna_7b"):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("towers")
    save_llava(root / "llava", save_tower(root / "tower"))
    save_tower(root / "other", seed=5)
    return root


def encoder_of(folders, name="tower"):
    return build_encoder("clip_vision_l_14_336", str(folders / name), device=CPU)


def model_of(folders):
    settings = LlavaSettings("float32", VisionFeatures(-2, "default"), "auto", 0)
    return build_vision_language_model(
        "llava_1_5_7b", str(folders / "llava"), encoder=encoder_of(folders), settings=settings, device=CPU
    )


def states_of(model, pixels):
    return model.vision_features.select(model.vision_tower, pixels)


def make_student(folders, folder, *, real_path="frozen", image=LORA, trained=True, base="tower"):
    encoder = encoder_of(folders, base)
    spec = StudentSpec(image, NOTHING, real_path, "none", False, encoder.fingerprint)
    student = Student(encoder, spec, seed=0)
    for parameter in student.parameters() if trained else ():
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(parameter.numel()))
    student.save_pretrained(folder)
    return open_student(folder)


@pytest.mark.reliability(21)
def test_the_tuned_tower_is_in_the_model_and_sees_otherwise(folders, tmp_path):
    model = model_of(folders)
    stock = states_of(model, PIXELS)
    student = make_student(folders, tmp_path / "student")
    tower = put_tower(model, encoder_of(folders), student, "generated")
    assert tower.fingerprint == hash_tensors(model.vision_tower.state_dict()) != model.stock_tower
    seen = tower.encode(PIXELS, modality="generated")
    assert torch.equal(seen, states_of(model, PIXELS)) and not torch.allclose(seen, stock, atol=1e-3)
    from gmail_kedro.models.student.student import take_route

    own = take_route(encoder_of(folders), student, "generated").image_tower(PIXELS)[1]
    assert torch.equal(seen, own)  # merged into LLaVA or in the student itself: the same tokens


@pytest.mark.reliability(21)
def test_only_the_tower_changes(folders, tmp_path):
    model = model_of(folders)
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    put_tower(model, encoder_of(folders), make_student(folders, tmp_path / "student"), "generated")
    changed = {key for key, value in model.model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith("model.vision_tower.") for key in changed)
    assert {key.split(".")[-2] for key in changed} == {"q_proj", "fc1"}


SETTINGS = [("hidden_act", "gelu"), ("num_attention_heads", 4), ("layer_norm_eps", 0.1)]


@pytest.mark.parametrize(("key", "value"), SETTINGS)
def test_a_tower_with_the_same_weights_and_another_setting_is_refused(key, value, folders, tmp_path):
    shutil.copytree(folders / "tower", tmp_path / "tower")
    config = tmp_path / "tower" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {key: value}))
    student = make_student(tmp_path, tmp_path / "student")
    with pytest.raises(ValueError, match=f"has the weights of the one in 'llava_1_5_7b', but {key} is {value!r} there"):
        put_tower(model_of(folders), encoder_of(tmp_path), student, "generated")


@pytest.mark.parametrize(("real_path", "is_stock"), [("frozen", True), ("proj", True), ("lora_proj", False)])
def test_real_images_go_through_the_declared_tower(real_path, is_stock, folders, tmp_path):
    model = model_of(folders)
    student = make_student(folders, tmp_path / "student", real_path=real_path)
    generated = put_tower(model, encoder_of(folders), student, "generated")
    real = put_tower(model, encoder_of(folders), student, "real")
    assert (real.fingerprint == model.stock_tower) == is_stock
    assert (real.fingerprint == generated.fingerprint) != is_stock
    assert hash_tensors(model.vision_tower.state_dict()) == real.fingerprint  # the model holds what was put in last
    assert torch.equal(generated.encode(PIXELS, modality="generated"), real.encode(PIXELS, modality="real")) != is_stock


def test_a_tower_encodes_images_of_its_route_only(folders, tmp_path):
    model = model_of(folders)
    student = make_student(folders, tmp_path / "student")
    for route, other in (("generated", "real"), ("real", "generated")):
        tower = put_tower(model, encoder_of(folders), student, route)
        with pytest.raises(RouteError, match=f"A {other} image was given to the vision tower of {route} images"):
            tower.encode(PIXELS, modality=other)
    with pytest.raises(ValueError, match=r"one of \('generated', 'real'\)|one of \['generated', 'real'\]"):
        put_tower(model, encoder_of(folders), student, "both")


def test_a_student_that_moved_nothing_is_not_taken_for_a_tuned_one(folders, tmp_path):
    student = make_student(folders, tmp_path / "student", trained=False)
    with pytest.raises(MissingWeightsError, match="it is the stock tower, bit for bit"):
        put_tower(model_of(folders), encoder_of(folders), student, "generated")
    untuned = make_student(folders, tmp_path / "none", image=NOTHING)
    model = model_of(folders)
    assert put_tower(model, encoder_of(folders), untuned, "generated").fingerprint == model.stock_tower


@pytest.mark.reliability(9)
def test_a_student_of_another_tower_is_refused(folders, tmp_path):
    student = make_student(folders, tmp_path / "student", base="other")
    with pytest.raises(ValueError, match="which is not the one in 'llava_1_5_7b'.*Align the model's own tower"):
        put_tower(model_of(folders), encoder_of(folders, "other"), student, "generated")


def test_every_tensor_must_be_there_in_its_shape_and_kind(folders):
    model = model_of(folders)
    state = dict(clip_tower_of(encoder_of(folders, "other")).state_dict())
    key = "encoder.layers.1.mlp.fc1.weight"
    before = hash_tensors(model.vision_tower.state_dict())
    for broken, reason in (
        ({name: value for name, value in state.items() if name != key}, rf"1 of \d+ tensors missing \({key}\)"),
        (state | {"vision_model.extra": state[key]}, r"1 unexpected \(vision_model\.extra\)"),
        (state | {key: state[key][:-1]}, rf"1 of another shape \({key} \[31, 16\] instead of \[32, 16\]\)"),
        (state | {key: state[key].int()}, rf"{key} is torch\.int32 instead of torch\.float32"),
    ):
        with pytest.raises(MissingWeightsError, match=reason):
            swap_tower(model, broken, source="a test")
        assert hash_tensors(model.vision_tower.state_dict()) == before
    assert swap_tower(model, {name: value.half() for name, value in state.items()}, source="a test") != before
    assert {value.dtype for value in model.vision_tower.state_dict().values()} == {torch.float32}
