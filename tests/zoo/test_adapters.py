"""Adapters: fresh ones change nothing, every tensor learns, stored and merged equals trained."""

import pytest
import torch

from gmail_kedro.zoo.adapters import add_adapter, load_student, open_adapter, trainable_parameters
from gmail_kedro.zoo.encoders import build_encoder
from gmail_kedro.zoo.registry import MissingWeightsError, hash_tensors

CPU = torch.device("cpu")
SETTINGS = {"rank": 4, "alpha": 8.0, "dropout": 0.0, "targets": ["attn", "c_fc", "c_proj"], "seed": 0}


@pytest.fixture
def images():
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_fresh_adapter_changes_nothing(encoder, images):
    before = encoder.encode_image(images)
    add_adapter(encoder, **SETTINGS)
    assert torch.allclose(encoder.encode_image(images), before, atol=1e-6)


@pytest.mark.parametrize("targets", [["attn"], ["c_fc", "c_proj"], ["attn", "c_fc", "c_proj"]])
def test_every_adapter_tensor_gets_a_gradient_and_the_base_none(encoder, images, targets):
    tower = add_adapter(encoder, **(SETTINGS | {"targets": targets}))
    with torch.no_grad():
        for parameter in trainable_parameters(tower):
            parameter.normal_(std=0.1)
    encoder.encode_image(images).square().sum().backward()
    for name, parameter in tower.named_parameters():
        if "lora_" in name:
            assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name
        else:
            assert not parameter.requires_grad and parameter.grad is None, name


def test_training_leaves_the_frozen_weights_alone_and_storing_keeps_the_student(encoder, images, tmp_path):
    teacher = build_encoder("mini_clip", None, device=CPU)
    frozen = hash_tensors(teacher.image_tower.state_dict())
    tower = add_adapter(encoder, **SETTINGS)
    optimizer = torch.optim.AdamW(trainable_parameters(tower), lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        encoder.encode_image(images).square().mean().backward()
        optimizer.step()
    trained = encoder.encode_image(images)
    tower.save_pretrained(tmp_path / "adapter")
    stored = open_adapter(tmp_path / "adapter")
    student = load_student(teacher, stored)
    assert torch.allclose(student.encode_image(images), trained, atol=1e-5)
    assert not torch.allclose(trained, build_encoder("mini_clip", None, device=CPU).encode_image(images), atol=1e-3)
    fresh = build_encoder("mini_clip", None, device=CPU).image_tower
    assert hash_tensors(fresh.state_dict()) == frozen
    inside = {
        name.replace("base_model.model.", "").replace("base_layer.", ""): v for name, v in tower.state_dict().items()
    }
    for name, value in fresh.state_dict().items():
        assert torch.equal(inside[name], value), name


def test_fingerprint_of_the_student_differs_from_the_teacher(encoder, tmp_path):
    before = encoder.fingerprint
    add_adapter(encoder, **SETTINGS).save_pretrained(tmp_path)
    student = load_student(build_encoder("mini_clip", None, device=CPU), open_adapter(tmp_path))
    assert student.fingerprint != before


def test_unknown_target_lists_what_there_is(encoder):
    with pytest.raises(
        ValueError, match=r"\['q_proj'\] are not in the image tower of 'mini_clip'. Its modules: .*attn"
    ):
        add_adapter(encoder, **(SETTINGS | {"targets": ["q_proj"]}))


def test_missing_adapter_says_how_to_make_it(tmp_path):
    with pytest.raises(MissingWeightsError, match="kedro run --pipeline=align"):
        open_adapter(tmp_path)
