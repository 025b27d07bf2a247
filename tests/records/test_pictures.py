import io

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.records.pictures import PictureMaker, encode_jpeg, refuse_bad_image

from .painting import SETTINGS, Painter, paint


def flat(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (32, 32), colour)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (flat((0, 0, 0)), "'c/0' is all black"),
        (flat((255, 255, 255)), r"'c/0' is of one colour \(255, 255, 255\)"),
        (flat((9, 80, 7)), r"'c/0' is of one colour \(9, 80, 7\)"),
        (Image.new("L", (32, 32), 0), "all black"),
        (paint("c", 1).resize((32, 16)), "'c/0' is 32 x 16 pixels; expected 32 x 32"),
    ],
)
def test_refuses_a_picture_that_shows_nothing(image: Image.Image, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        refuse_bad_image(image, "c/0", 32)


def test_accepts_a_dark_picture_with_something_in_it() -> None:
    image = flat((0, 0, 0))
    image.putpixel((5, 5), (1, 0, 0))
    refuse_bad_image(image, "c/0", 32)
    refuse_bad_image(paint("c", 1), "c/0", 32)


def test_jpeg_keeps_colour_and_drops_metadata() -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    image.info = {"comment": b"prompt", "exif": b"Exif\0\0", "icc_profile": b"x", "dpi": (9, 9)}
    decoded = Image.open(io.BytesIO(encode_jpeg(image, 90)))
    assert not {"comment", "exif", "icc_profile", "dpi"} & set(decoded.info)
    assert [layer[1:3] for layer in decoded.layer] == [(1, 1)] * 3  # 4:4:4
    assert image.info["comment"] == b"prompt"


def row(number: int) -> dict[str, object]:
    key = {"key": f"c{number}/0", "caption_id": f"c{number}", "sample_index": 0, "image_id": "i", "shard_id": "00003"}
    return key | {"prompt": "one two three four five six seven"[: 9 * number + 3], "seed": number}


def test_facts_say_what_made_the_picture() -> None:
    short, long = PictureMaker(Painter, SETTINGS).make([row(0), row(4)])
    assert short.facts["prompt"] == "one"
    assert (short.facts["truncated"], long.facts["truncated"]) == (False, True)
    assert short.facts["generator"] == "painter"
    assert short.key == "c0/0"


def test_a_failing_generator_is_reported_with_the_captions_of_its_batch() -> None:
    def explode() -> None:
        raise MemoryError("CUDA out of memory")

    maker = PictureMaker(lambda: Painter(before=explode), SETTINGS)
    with pytest.raises(
        RuntimeError, match=r"'painter' failed on the captions \['c0', 'c1'\] of shard 00003.*MemoryError"
    ):
        maker.make([row(0), row(1)])


def test_too_few_pictures_are_refused() -> None:
    class Lazy(Painter):
        def decode(self, latents):
            return super().decode(latents)[:-1]

    with pytest.raises(RuntimeError, match="1 pictures came for 2 prompts"):
        PictureMaker(Lazy, SETTINGS).make([row(0), row(1)])


def test_a_picture_that_could_not_be_made_is_refused_with_the_fault() -> None:
    class Diverging(Painter):
        def denoise(self, prompts, seeds):
            return super().denoise(prompts, seeds) * float("nan")

    with pytest.raises(ValueError, match=r"'c0/0' could not be made \(not_finite\)"):
        PictureMaker(Diverging, SETTINGS).make([row(0)])


def test_weights_that_changed_are_refused() -> None:
    with pytest.raises(ValueError, match="'painter' has revision paint-1; expected paint-2"):
        PictureMaker(Painter, SETTINGS | {"revision": "paint-2"}).make([row(0)])
