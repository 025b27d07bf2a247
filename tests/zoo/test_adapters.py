"""Adapters: fresh ones change nothing, every tensor learns, stored and merged equals trained."""

from dataclasses import replace

import pytest
import torch

from gmail_kedro.checksums import hash_tensors
from gmail_kedro.zoo.adapters import TuningSpec, load_tuned, save_tuned, trainable_parameters, tune_tower
from gmail_kedro.zoo.encoders import build_encoder
from gmail_kedro.zoo.registry import MissingWeightsError

from ..precision import assert_equal_but_rounding

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
    teacher.image_tower = load_tuned(teacher.image_tower, spec, tmp_path)
    assert torch.allclose(teacher.encode_image(images), trained, atol=1e-5)
    assert not torch.allclose(trained, before, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in teacher.image_tower.parameters())


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
    with pytest.raises(ValueError, match=r"\['q_proj'\] are not in the tower of 'mini_clip'. Its modules: .*attn"):
        tune(encoder, targets=("q_proj",))


def test_dora_on_fused_attention_is_refused_with_advice(encoder):
    with pytest.raises(ValueError, match=r"DoRA cannot decompose the fused attention \['attn'\].*\[c_fc, c_proj\]"):
        tune(encoder, kind="dora", targets=("attn",))


@pytest.mark.parametrize(("kind", "name"), [("lora", "adapter_model.safetensors"), ("full", "tower.safetensors")])
def test_missing_weights_say_how_to_make_them(encoder, tmp_path, kind, name):
    with pytest.raises(MissingWeightsError, match=f"no {name} in .*kedro run --pipeline=align"):
        load_tuned(encoder.image_tower, replace(LORA, kind=kind), tmp_path)
