"""Images of one modality never go through the other's route."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from gmail_kedro.engine.inference import Encoding, FeatureStore, encode_images
from gmail_kedro.generated_sets.stored_images import ShardImages
from gmail_kedro.images.image_files import ImageFiles
from gmail_kedro.images.matched_codec import CodecMatchedImages
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.student.student import take_route

NOTHING = SimpleNamespace(kind="none")


class AnyImages:
    """A grey image under every key, of unknown origin."""

    def read(self, key: str) -> bytes:
        """Returns an encoded image."""
        from io import BytesIO

        from PIL import Image

        stream = BytesIO()
        Image.new("RGB", (32, 32), (int(key), 90, 90)).save(stream, "PNG")
        return stream.getvalue()


class RealImages(AnyImages):
    """The same, as a corpus holds them."""

    modality = ImageFiles.modality


class GeneratedImages(AnyImages):
    """The same, as a generated set."""

    modality = ShardImages.modality


def on_route(route):
    encoder = build_encoder("mini_clip", None, device=torch.device("cpu"))
    spec = SimpleNamespace(
        teacher=encoder.fingerprint, real_path="frozen", text=NOTHING, image=NOTHING, projection="none"
    )
    stored = SimpleNamespace(spec=spec, folder=Path("nowhere"), fingerprint="0")
    return encoder if route is None else take_route(encoder, stored, route)


@pytest.mark.parametrize(
    ("route", "source", "refused"),
    [
        ("generated", RealImages(), "route of generated images. Got real images .RealImages."),
        ("real", GeneratedImages(), "route of real images. Got generated images .GeneratedImages."),
        ("generated", GeneratedImages(), None),
        ("real", RealImages(), None),
        ("generated", CodecMatchedImages(RealImages(), size=32, quality=75), "Got real images .CodecMatchedImages."),
        ("generated", CodecMatchedImages(GeneratedImages(), size=32, quality=75), None),
        ("generated", AnyImages(), None),
        (None, RealImages(), None),
        (None, GeneratedImages(), None),
    ],
)
@pytest.mark.reliability(22)
def test_each_modality_takes_its_own_route(route, source, refused, tmp_path):
    """Fault test 22: a real image through f_g, or the reverse, is refused; the teacher alone takes both."""
    encoding = Encoding(FeatureStore(tmp_path), 2, torch.device("cpu"), "float32")
    if refused is None:
        assert encode_images(on_route(route), source, ["1", "200"], encoding).shape[0] == 2
        return
    with pytest.raises(ValueError, match=refused):
        encode_images(on_route(route), source, ["1", "200"], encoding)
    assert not list(tmp_path.iterdir())
