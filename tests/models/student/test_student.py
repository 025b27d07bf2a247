"""Students: the two routes, what is stored, and what must never be mixed up."""

import json
from dataclasses import replace

import pytest
import torch

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.fingerprints import finish_folder
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.student.student import (
    Student,
    StudentSpec,
    describe_origin,
    open_student,
    refuse_other_set,
    take_route,
)
from gmail_kedro.models.weight_sources import MissingWeightsError

CPU = torch.device("cpu")
LORA = TuningSpec(kind="lora", rank=4, alpha=8.0, dropout=0.0, targets=("attn",))
NOTHING = replace(LORA, kind="none")


@pytest.fixture
def images():
    return torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def teacher():
    return build_encoder("mini_clip", None, device=CPU)


def spec_of(encoder, **changes):
    spec = StudentSpec(
        image=LORA, text=NOTHING, real_path="frozen", projection="none", batch_norm=False, teacher=encoder.fingerprint
    )
    return replace(spec, **changes)


def train(encoder, spec, images, folder):
    """Takes three steps that move every trained weight of both routes, and stores the student."""
    student = Student(encoder, spec, seed=0)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-2)
    student.train()
    for _ in range(3):
        optimizer.zero_grad()
        pooled = encoder.pool_image(images)[0]
        loss = student.project(pooled, "generated").square().mean() + student.project(pooled, "real").mean()
        loss.backward()
        optimizer.step()
    student.train(False)
    student.save_pretrained(folder)
    pooled = encoder.pool_image(images)[0].detach()
    return {route: student.project(pooled, route).detach() for route in ("generated", "real")}


@pytest.mark.parametrize("kind", ["none", "linear", "residual", "mlp"])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_routes_of_a_shared_student_are_what_was_trained(images, tmp_path, kind, batch_norm):
    if kind == "none" and batch_norm:
        pytest.skip("no head, no batch normalisation")
    encoder = teacher()
    trained = train(
        encoder, spec_of(encoder, real_path="lora_proj", projection=kind, batch_norm=batch_norm), images, tmp_path
    )
    stored = open_student(tmp_path)
    for route in ("generated", "real"):
        found = take_route(teacher(), stored, route).encode_image(images)
        assert torch.allclose(found, trained[route], atol=1e-4), route
    if kind != "none":
        assert not torch.allclose(trained["generated"], trained["real"], atol=1e-3)


@pytest.mark.parametrize("kind", ["linear", "residual"])
def test_heads_start_as_clip(images, kind):
    encoder = teacher()
    before = encoder.encode_image(images)
    student = Student(encoder, spec_of(encoder, real_path="proj", projection=kind), seed=0)
    pooled = encoder.pool_image(images)[0]
    for route in ("generated", "real"):
        assert torch.allclose(student.project(pooled, route), before, atol=1e-5)


@pytest.mark.reliability(21)
def test_the_frozen_route_is_the_teacher_bit_for_bit(images, tmp_path):
    encoder = teacher()
    train(encoder, spec_of(encoder), images, tmp_path)
    stored, untouched = open_student(tmp_path), teacher()
    real = take_route(teacher(), stored, "real")
    assert torch.equal(real.encode_image(images), untouched.encode_image(images))
    assert real.fingerprint == untouched.fingerprint
    generated = take_route(teacher(), stored, "generated")
    assert generated.fingerprint != untouched.fingerprint
    assert not torch.allclose(generated.encode_image(images), untouched.encode_image(images), atol=1e-3)


def test_proj_keeps_the_tower_of_real_images_frozen(images, tmp_path):
    encoder = teacher()
    train(encoder, spec_of(encoder, real_path="proj", projection="linear"), images, tmp_path)
    real, untouched = take_route(teacher(), open_student(tmp_path), "real"), teacher()
    assert torch.equal(real.pool_image(images)[0], untouched.pool_image(images)[0])
    assert not torch.allclose(real.encode_image(images), untouched.encode_image(images), atol=1e-3)


def test_a_tuned_text_tower_serves_both_routes(images, tmp_path):
    encoder = teacher()
    tokens = encoder.tokenize(["a red 7."])
    student = Student(encoder, spec_of(encoder, text=LORA), seed=0)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1)
    tuned = encoder.encode_text(tokens).detach()
    student.save_pretrained(tmp_path)
    for route in ("generated", "real"):
        found = take_route(teacher(), open_student(tmp_path), route)
        assert torch.allclose(found.encode_text(tokens), tuned, atol=1e-4)
        assert found.fingerprint != teacher().fingerprint


@pytest.mark.reliability(9)
def test_a_student_of_another_encoder_is_refused(tmp_path, images):
    encoder = teacher()
    Student(encoder, spec_of(encoder, teacher="0" * 64), seed=0).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="tuned from another encoder than 'mini_clip'"):
        take_route(teacher(), open_student(tmp_path), "generated")


def test_an_unknown_route_is_refused(tmp_path):
    encoder = teacher()
    Student(encoder, spec_of(encoder), seed=0).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"route must be one of \['generated', 'real'\]. Got 'synthetic'"):
        take_route(teacher(), open_student(tmp_path), "synthetic")


def test_an_origin_is_described_on_the_real_route_and_tells_students_and_maps_apart(tmp_path):
    def describe(folder: str, *, route: str = "real", mean: float = 0.0, projection: str = "linear"):
        encoder = teacher()
        spec = spec_of(encoder, image=NOTHING, real_path="proj", projection=projection)
        Student(encoder, spec, seed=0).save_pretrained(tmp_path / folder)
        stored = open_student(tmp_path / folder)
        found = take_route(teacher(), stored, route)
        tensors = {"mean": torch.full((3,), mean)}
        return describe_origin(found, stored, sides=["generated"], map_kind="c3", map_tensors=tensors)

    origin = describe("first")
    assert origin == describe("second") and origin.encoder == "mini_clip" and origin.sides == ("generated",)
    assert origin.feature_map != describe("first", mean=1.0).feature_map
    other = describe("third", projection="residual")
    assert origin.real_route != other.real_route and origin.student != other.student
    with pytest.raises(ValueError, match="needs the real route. Got 'generated'"):
        describe("first", route="generated")


def test_what_is_missing_says_how_to_make_it(tmp_path):
    with pytest.raises(MissingWeightsError, match="expected student.json.*kedro run --pipeline=align"):
        open_student(tmp_path)
    encoder = teacher()
    Student(encoder, spec_of(encoder, projection="linear"), seed=0).save_pretrained(tmp_path)
    (tmp_path / "heads.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"no heads.safetensors"):
        take_route(teacher(), open_student(tmp_path), "generated")


KNOWN = {"name": "mini_sd", "fingerprint": "a" * 64, "gate": "b" * 64}


@pytest.fixture
def student_of_a_set(tmp_path):
    encoder = teacher()
    Student(encoder, spec_of(encoder, generated_set=KNOWN), seed=0).save_pretrained(tmp_path)
    return tmp_path


def test_a_student_knows_its_set_under_whatever_name(student_of_a_set):
    student = open_student(student_of_a_set)
    assert student.spec.generated_set == KNOWN
    refuse_other_set(student, KNOWN | {"name": "moved"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "mini_flux", "fingerprint": "c" * 64}, r"'mini_sd' \(a{12}\). Got 'mini_flux' .*=set=mini_sd"),
        ({"fingerprint": "c" * 64}, r"'mini_sd' \(a{12}\). Got one made anew since \(c{12}\).* --pipeline=align$"),
        ({"gate": "c" * 64}, "Got one made anew since"),
    ],
)
def test_another_set_is_refused(changes, message, student_of_a_set):
    with pytest.raises(ValueError, match=message):
        refuse_other_set(open_student(student_of_a_set), KNOWN | changes)


def test_a_student_that_does_not_say_its_set_is_taken_with_a_warning(student_of_a_set, caplog):
    recipe = student_of_a_set / "student.json"
    facts = json.loads(recipe.read_text())
    del facts["generated_set"]  # as it was written before
    finish_folder(student_of_a_set, recipe.name, facts)
    refuse_other_set(open_student(student_of_a_set), KNOWN)
    assert "does not say which generated set it was aligned on; that it was 'mini_sd' cannot be checked" in caplog.text
