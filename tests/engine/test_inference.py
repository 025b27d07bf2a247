"""The route guard: each modality goes through its own route, wherever pictures are encoded."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from gmail_kedro.corpora.folder import FolderImages
from gmail_kedro.engine.features import FeatureStore
from gmail_kedro.engine.inference import Encoding, encode_images
from gmail_kedro.records.codec import CodecMatchedImages
from gmail_kedro.records.stored import StoredImages
from gmail_kedro.zoo.adapters import TuningSpec
from gmail_kedro.zoo.encoders import build_encoder
from gmail_kedro.zoo.student import Student, StudentSpec, describe_origin, open_student, take_route

CPU = torch.device("cpu")
UNTUNED = TuningSpec(kind="none", rank=4, alpha=4, dropout=0.0, targets=())


def picture() -> bytes:
    stream = BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


class Generated(StoredImages):
    """A generated set of one picture."""

    def __init__(self) -> None:
        pass

    def read(self, key: str) -> bytes:
        return picture()


@pytest.fixture
def sources(tmp_path) -> dict[str, object]:
    (tmp_path / "a.jpg").write_bytes(picture())
    return {"real": FolderImages({"a": tmp_path / "a.jpg"}), "generated": Generated()}


@pytest.fixture
def student(tmp_path):
    teacher = build_encoder("mini_clip", None, device=CPU)
    spec = StudentSpec(UNTUNED, UNTUNED, "frozen", "none", False, teacher.fingerprint)
    Student(teacher, spec, seed=0).save_pretrained(tmp_path / "student")
    return open_student(tmp_path / "student")


@pytest.fixture
def encoding(tmp_path) -> Encoding:
    return Encoding(FeatureStore(tmp_path / "features"), 8, CPU, "float32")


@pytest.mark.parametrize(("route", "other"), [("real", "generated"), ("generated", "real")])
def test_pictures_of_the_other_modality_are_refused(route, other, sources, student, encoding):
    encoder = take_route(build_encoder("mini_clip", None, device=CPU), student, route)
    assert encode_images(encoder, sources[route], ["a"], encoding).shape == (1, encoder.embed_dim)
    message = f"is on the {route} route and was given {other} images"
    for source in (sources[other], CodecMatchedImages(sources[other], size=32, quality=75)):
        with pytest.raises(ValueError, match=message):
            encode_images(encoder, source, ["a"], encoding)


def test_the_teacher_as_it_is_takes_both(sources, encoding):
    encoder = build_encoder("mini_clip", None, device=CPU)
    both = [encode_images(encoder, source, ["a"], encoding) for source in sources.values()]
    assert torch.equal(*both)


def test_an_origin_is_described_on_the_real_route_alone(student):
    def describe(route: str, **changes):
        encoder = take_route(build_encoder("mini_clip", None, device=CPU), student, route)
        settings = {"sides": ["generated"], "map_kind": "c3", "map_tensors": {"mean": torch.zeros(3)}} | changes
        return describe_origin(encoder, student, **settings)

    origin = describe("real")
    assert origin == describe("real") and origin.encoder == "mini_clip" and origin.sides == ("generated",)
    assert origin.feature_map != describe("real", map_tensors={"mean": torch.ones(3)}).feature_map
    assert origin.student == student.fingerprint
    with pytest.raises(ValueError, match="needs the real route. Got 'generated'"):
        describe("generated")
