"""The codec-matched control takes a codec's gap away, and gives the same bytes every time."""

import io

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.images.decoding import decode_image
from gmail_kedro.images.matched_codec import CodecMatchedImages


class Images:
    """Encoded images by key, kept in memory."""

    def __init__(self, **images: bytes) -> None:
        self._images = images

    def read(self, key: str) -> bytes:
        return self._images[key]


def encode(image: Image.Image, kind: str, **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **settings)
    return buffer.getvalue()


def texture(seed: int, size: tuple[int, int] = (96, 64)) -> Image.Image:
    """An image with detail of every size, in colour."""
    rng = np.random.default_rng(seed)
    layers = [
        np.asarray(
            Image.fromarray(rng.integers(0, 256, (size[1] // cell, size[0] // cell, 3), dtype=np.uint8)).resize(size)
        )
        for cell in (2, 4, 8, 16)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8))


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(decode_image(jpeg, name="test")).astype(float)


def root_mean_square(first: bytes, second: bytes) -> float:
    return float(np.sqrt(np.mean((pixels(first) - pixels(second)) ** 2)))


def test_it_is_of_its_sources_modality() -> None:
    generated = Images()
    generated.modality = "generated"
    assert CodecMatchedImages(generated, size=32, quality=75).modality == "generated"
    assert CodecMatchedImages(Images(), size=32, quality=75).modality is None


@pytest.mark.parametrize("seed", range(5))
def test_one_image_from_two_codecs_comes_closer(seed: int) -> None:
    image = texture(seed)
    source = Images(clean=encode(image, "PNG"), coarse=encode(image, "JPEG", quality=20))
    matched = CodecMatchedImages(source, size=32, quality=60)
    before = root_mean_square(source.read("clean"), source.read("coarse"))
    after = root_mean_square(matched.read("clean"), matched.read("coarse"))
    assert before > 5
    assert after < 0.6 * before


def test_colour_resolution_is_matched_too() -> None:
    image = texture(7, size=(64, 64))
    source = Images(full=encode(image, "JPEG", quality=95, subsampling=0), halved=encode(image, "JPEG", quality=95))
    matched = CodecMatchedImages(source, size=64, quality=90)
    before = root_mean_square(source.read("full"), source.read("halved"))
    assert root_mean_square(matched.read("full"), matched.read("halved")) < before


def test_the_shorter_side_has_the_size_and_the_proportion_stays() -> None:
    shapes = {"wide": (96, 64), "tall": (32, 80), "thin": (16, 1600)}
    source = Images(**{name: encode(texture(0, size), "PNG") for name, size in shapes.items()})
    matched = CodecMatchedImages(source, size=40, quality=75)
    sizes = {key: decode_image(matched.read(key), name=key).size for key in ("wide", "tall", "thin")}
    assert sizes == {"wide": (60, 40), "tall": (40, 100), "thin": (40, 4000)}


def test_the_same_bytes_every_time_whatever_the_file_carries() -> None:
    image = texture(1)
    plain, tagged = encode(image, "PNG"), encode(image, "PNG", dpi=(300, 300))
    matched = CodecMatchedImages(Images(plain=plain, tagged=tagged), size=32, quality=75)
    assert plain != tagged
    assert matched.read("plain") == matched.read("plain") == matched.read("tagged")
    assert Image.open(io.BytesIO(matched.read("plain"))).format == "JPEG"


def test_quality_counts() -> None:
    source = Images(image=encode(texture(2), "PNG"))
    sizes = [len(CodecMatchedImages(source, size=64, quality=quality).read("image")) for quality in (10, 50, 95)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 0, "quality": 75}, "size of CodecMatchedImages must be at least 1 pixel. Got 0"),
        ({"size": 32, "quality": 0}, "between 1 and 95. Got 0"),
        ({"size": 32, "quality": 96}, "between 1 and 95. Got 96"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CodecMatchedImages(Images(), **settings)


def test_what_is_no_image_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'broken'"):
        CodecMatchedImages(Images(broken=b"no image"), size=32, quality=75).read("broken")
