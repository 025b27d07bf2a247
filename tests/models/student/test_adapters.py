"""Adapters: fresh ones change nothing, every tensor learns, stored and merged equals trained."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.fingerprints import CHECKSUMS_FILE
from gmail_kedro.models.student.adapters import TuningSpec, load_tuned, save_tuned, trainable_parameters, tune_tower
from gmail_kedro.models.student.student import Student, StudentSpec, open_student, take_route
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import hash_tensors

from ...precision import assert_equal_but_rounding

CPU = torch.device("cpu")
LORA = TuningSpec(kind="lora", rank=4, alpha=8.0, dropout=0.0, targets=("attn", "c_fc", "c_proj"))


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def tune(encoder, **changes):
    encoder.image_tower = tune_tower(encoder.image_tower, replace(LORA, **changes), owner="mini_clip", seed=0)
    return encoder.image_tower


@pytest.mark.parametrize("kind", ["lora", "full", "none"])
def test_fresh_tuning_changes_nothing(encoder, images, kind):
    before = encoder.encode_image(images)
    tune(encoder, kind=kind)
    assert_equal_but_rounding(encoder.encode_image(images), before)


@pytest.mark.reliability(21)
@pytest.mark.parametrize(
    ("kind", "targets"),
    [
        ("lora", ("attn",)),
        ("lora", ("c_fc", "c_proj")),
        ("lora", ("attn", "c_fc", "c_proj")),
        ("dora", ("c_fc", "c_proj")),
    ],
)
def test_every_adapter_tensor_gets_a_gradient_and_the_base_none(encoder, images, kind, targets):
    tower = tune(encoder, kind=kind, targets=targets)
    with torch.no_grad():
        for parameter in trainable_parameters(tower):
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    encoder.encode_image(images).square().sum().backward()
    for name, parameter in tower.named_parameters():
        if "lora_" in name:
            assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name
        else:
            assert not parameter.requires_grad and parameter.grad is None, name


def test_full_tuning_trains_every_weight(encoder, images):
    tower = tune(encoder, kind="full")
    encoder.encode_image(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in tower.parameters())


def test_only_the_last_blocks_get_an_adapter(encoder):
    tower = tune(encoder, targets=("attn",), blocks=(2, 3), block_pattern="resblocks")
    names = [name for name, parameter in tower.named_parameters() if parameter.requires_grad]
    assert names and {name.split("resblocks.")[1][0] for name in names} == {"2", "3"}


@pytest.mark.reliability(21)
@pytest.mark.parametrize("kind", ["lora", "full"])
def test_storing_keeps_what_was_trained(encoder, images, tmp_path, kind):
    spec = replace(LORA, kind=kind)
    tower = tune(encoder, kind=kind)
    optimizer = torch.optim.AdamW(trainable_parameters(tower), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        encoder.encode_image(images).square().mean().backward()
        optimizer.step()
    trained = encoder.encode_image(images).detach()
    save_tuned(tower, spec, tmp_path)
    teacher = build_encoder("mini_clip", None, device=CPU)
    before = teacher.encode_image(images)
    teacher.image_tower = load_tuned(teacher.image_tower, spec, tmp_path, owner="mini_clip")
    assert torch.allclose(teacher.encode_image(images), trained, atol=1e-5)
    assert not torch.allclose(trained, before, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.image_tower.parameters())


@pytest.mark.reliability(21)
def test_training_leaves_the_frozen_weights_alone(encoder, images):
    tower = tune(encoder)
    optimizer = torch.optim.AdamW(trainable_parameters(tower), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        encoder.encode_image(images).square().mean().backward()
        optimizer.step()
    inside = {
        name.replace("base_model.model.", "").replace("base_layer.", ""): value
        for name, value in tower.state_dict().items()
        if "lora_" not in name
    }
    fresh = build_encoder("mini_clip", None, device=CPU).image_tower.state_dict()
    assert hash_tensors(inside) == hash_tensors(fresh)


def test_unknown_target_lists_what_there_is(encoder):
    with pytest.raises(ValueError, match=r"\['q_proj'\] are not in 'mini_clip'. Its modules: .*attn"):
        tune(encoder, targets=("q_proj",))


def test_dora_on_fused_attention_is_refused_with_advice(encoder):
    with pytest.raises(ValueError, match=r"DoRA cannot decompose the fused attention \['attn'\].*\[c_fc, c_proj\]"):
        tune(encoder, kind="dora", targets=("attn",))


@pytest.mark.parametrize(("kind", "name"), [("lora", "adapter_model.safetensors"), ("full", "tower.safetensors")])
def test_missing_weights_say_how_to_make_them(encoder, tmp_path, kind, name):
    with pytest.raises(MissingWeightsError, match=f"no {name} in .*kedro run --pipeline=align"):
        load_tuned(encoder.image_tower, replace(LORA, kind=kind), tmp_path, owner="mini_clip")


def half(state):
    return dict(sorted(state.items())[: len(state) // 2])


def wrapped(state):
    return {f"module.{name}": value for name, value in state.items()}


def wider(state):
    return {name: torch.cat([value, value]) for name, value in state.items()}


@pytest.mark.parametrize("part", ["image", "text"])
@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict, ""),
        (half, r"(\d+) of (\d+) tensors missing \({first}.*, \.\.\.\)\. "),
        (wider, r"(\d+) of another shape \({first}.* \[\d+.*\] instead of \[\d+.*, \.\.\.\)"),
        (wrapped, r"(\d+) of \1 tensors missing \({first}.*, \1 unexpected \(module.{first}.* take module. or _orig"),
    ],
    ids=["whole", "half", "wider", "wrapped"],
)
def test_a_stored_tower_is_taken_whole_or_not_at_all(encoder, images, tmp_path, part, kind, change, words):
    nothing = replace(LORA, kind="none")
    tuned = replace(LORA, kind=kind, targets=("attn",))
    parts = {"image": nothing, "text": nothing} | {part: tuned}
    spec = StudentSpec(**parts, real_path="frozen", projection="none", batch_norm=False, teacher=encoder.fingerprint)
    student, tokens = Student(encoder, spec, seed=0), encoder.tokenize(["a red 7."])
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.05)
        trained = encoder.encode_image(images) if part == "image" else encoder.encode_text(tokens)
    student.save_pretrained(tmp_path)
    file = tmp_path / ("text" if part == "text" else "") / ("adapter_model" if kind == "lora" else "tower")
    file = file.with_suffix(".safetensors")
    state = load_file(file)
    save_file(change(state), file, {"format": "pt"})
    (tmp_path / CHECKSUMS_FILE).unlink()  # as another tool leaves it
    fresh = build_encoder("mini_clip", None, device=CPU)
    if not words or (kind, change) == ("full", wrapped):  # whole towers are read without their wrapper
        taken = take_route(fresh, open_student(tmp_path), "generated")
        found = taken.encode_image(images) if part == "image" else taken.encode_text(tokens)
        assert torch.allclose(found, trained, atol=1e-4)
        return
    first = min(state) if change is not half else sorted(state)[len(state) // 2]
    with pytest.raises(MissingWeightsError, match=words.replace("{first}", first)) as refusal:
        take_route(fresh, open_student(tmp_path), "generated")
    assert str(file) in str(refusal.value) and "'mini_clip (its" in str(refusal.value)


def test_an_adapter_of_another_tower_is_refused_with_both_named(encoder, tmp_path):
    spec = replace(LORA, targets=("qkv",))
    other = build_encoder("mini_siglip", None, device=CPU)
    save_tuned(tune_tower(other.image_tower, spec, owner="mini_siglip", seed=0), spec, tmp_path)
    with pytest.raises(
        MissingWeightsError, match="adapter in .*adapter_model.safetensors could not be put into 'mini_cl"
    ):
        load_tuned(encoder.image_tower, spec, tmp_path, owner="mini_clip")


def test_a_cut_adapter_is_refused(encoder, tmp_path):
    save_tuned(tune(encoder), LORA, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(MissingWeightsError, match="adapter_model.safetensors could not be put into 'mini_clip'"):
        load_tuned(build_encoder("mini_clip", None, device=CPU).image_tower, LORA, tmp_path, owner="mini_clip")


WRITE_ADAPTER = """
import sys
from pathlib import Path
import torch
from gmail_kedro.models.student.adapters import TuningSpec, save_tuned, tune_tower

names = ("query", "key", "value", "output", "up", "down")
torch.manual_seed(0)
tower = torch.nn.ModuleDict({name: torch.nn.Linear(4, 4) for name in names})
spec = TuningSpec(kind="lora", rank=2, alpha=4.0, dropout=0.0, targets=names)
save_tuned(tune_tower(tower, spec, owner="tiny", seed=0), spec, Path(sys.argv[1]))
"""


@pytest.mark.reliability(34)
def test_an_adapter_has_the_same_bytes_under_every_hash_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["here", str(tmp_path / "here")])
    exec(WRITE_ADAPTER, {})
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", WRITE_ADAPTER, str(tmp_path / "there")], check=True, env=environment)
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    written = json.loads((tmp_path / "here/adapter_config.json").read_text())["target_modules"]
    assert written == ["down", "key", "output", "query", "up", "value"]  # six names: PEFT's order is one of 720
