"""Whatever people call .jpg becomes upright RGB, or an error that names the image and the remedy."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, features

from gmail_kedro.images.decoding import (
    FORMATS,
    IMAGE_ENDINGS,
    ORIENTATION_TAG,
    UNREAD_ENDINGS,
    decode_image,
    file_ending,
)

pytestmark = pytest.mark.reliability(11)


def _difference(first: Image.Image, second: Image.Image) -> float:
    assert first.size == second.size
    return float(np.abs(np.asarray(first).astype(int) - np.asarray(second).astype(int)).mean())


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_come_back_exactly(encode, real_image, kind):
    decoded = decode_image(encode(real_image, kind), name="x")
    assert decoded.mode == "RGB"
    assert _difference(decoded, real_image) == 0


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), ("WEBP", {"quality": 95}), ("GIF", {})])
def test_lossy_formats_come_back_nearly(encode, real_image, kind, options):
    decoded = decode_image(encode(real_image, kind, **options), name="x")
    assert decoded.mode == "RGB"
    assert _difference(decoded, real_image) < 6


@pytest.mark.reliability(11)
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (1, None), (2, Image.Transpose.FLIP_LEFT_RIGHT), (3, Image.Transpose.ROTATE_180),
        (4, Image.Transpose.FLIP_TOP_BOTTOM), (5, Image.Transpose.TRANSPOSE), (6, Image.Transpose.ROTATE_90),
        (7, Image.Transpose.TRANSVERSE), (8, Image.Transpose.ROTATE_270), (99, None),
    ],
)  # fmt: skip
def test_exif_orientation_is_undone(encode, real_image, orientation, stored):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    as_stored = real_image if stored is None else real_image.transpose(stored)
    for kind, options in (("JPEG", {"quality": 95, "subsampling": 0}), ("PNG", {}), ("TIFF", {})):
        decoded = decode_image(encode(as_stored, kind, exif=exif, **options), name="x")
        assert _difference(decoded, real_image) < 3, kind


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_leaves_the_pixels(encode, real_image):
    data = encode(real_image, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7fgarbage")
    assert decode_image(data, name="x").size == real_image.size


@pytest.mark.reliability(11)
def test_cmyk_and_grey_and_palette(encode, real_image):
    assert _difference(decode_image(encode(real_image.convert("CMYK")), name="x"), real_image) < 6
    grey = real_image.convert("L")
    assert _difference(decode_image(encode(grey, "PNG"), name="x"), grey.convert("RGB")) == 0
    palette = real_image.quantize(64)
    assert _difference(decode_image(encode(palette, "PNG"), name="x"), palette.convert("RGB")) == 0
    assert decode_image(encode(real_image.convert("1"), "PNG"), name="x").mode == "RGB"


@pytest.mark.reliability(11)
def test_16_bits_are_scaled_not_clipped(encode):
    deep = Image.fromarray(np.array([[0, 257, 32896, 65535, 128, 129]], dtype=np.uint16))
    for kind in ("PNG", "TIFF"):
        decoded = np.asarray(decode_image(encode(deep, kind), name="x"))
        assert decoded[0, :, 0].tolist() == [0, 1, 128, 255, 0, 1]
        assert decoded.shape == (1, 6, 3)


@pytest.mark.reliability(11)
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white(encode, mode):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0)).convert(mode)
    options = {"transparency": clear.getpixel((0, 0))} if mode == "P" else {}
    decoded = decode_image(encode(clear, "PNG", **options), name="x")
    assert set(decoded.get_flattened_data()) == {(255, 255, 255)}


@pytest.mark.reliability(11)
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "'cat.jpg' is an empty file. Fetch it again"),
        (b"\n<!DOCTYPE html><html><body>404</body>", "'cat.jpg' is an HTML page, not an image"),
        (b"<HTML>", "is an HTML page"),
        (b"\xef\xbb\xbf<svg xmlns='http://www.w3.org/2000/svg'/>", "is an SVG drawing"),
        (b"<?xml version='1.0'?><svg/>", "is an XML or SVG document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "is a Git LFS pointer"),
        (b"not an image at all", r"'cat.jpg' is not in a known format \(JPEG, .*begins with b'not an i'.*convert it"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not in a known format"),
    ],
)
def test_what_is_no_image_is_refused(data, message):
    with pytest.raises(ValueError, match=message):
        decode_image(data, name="cat.jpg")


@pytest.mark.reliability(11)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "TIFF"])
def test_a_cut_off_image_is_refused(encode, real_image, kind):
    data = encode(real_image, kind)
    for kept in (len(data) * 2 // 3, len(data) - 60):
        with pytest.raises(ValueError, match=r"image 'cat.jpg' .*(Fetch it again|leave it out)"):
            decode_image(data[:kept], name="cat.jpg")


def test_a_cut_that_the_header_does_not_show_is_found(encode, real_image):
    with pytest.raises(ValueError, match="'cat.jpg' is cut off or corrupt"):
        decode_image(encode(real_image)[:-60], name="cat.jpg")


def test_a_corrupt_png_is_refused(encode, real_image):
    data = bytearray(encode(real_image, "PNG"))
    data[60:70] = b"\x00" * 10
    with pytest.raises(ValueError, match=r"'cat.png' is cut off or corrupt \(\d+ bytes"):
        decode_image(bytes(data), name="cat.png")


def _png_header(width: int, height: int) -> bytes:
    """Returns a PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.reliability(11)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("size", "got"),
    [
        ((10_000, 5_001), "10000 x 5001"),
        ((10_000, 10_000), "10000 x 10000"),
        ((50_000, 50_000), "more than 89 million"),
    ],
)
def test_huge_images_are_refused_before_decoding(size, got):
    with pytest.raises(ValueError, match=f"'map.png' must have at most 50 million pixels. Got {got}. Scale it down"):
        decode_image(_png_header(*size), name="map.png")


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_huge_images_are_refused_where_warnings_are_errors():
    with pytest.raises(ValueError, match="must have at most 50 million pixels. Got more than 89 million"):
        decode_image(_png_header(10_000, 10_000), name="map.png")


def test_fifty_megapixels_pass_the_header():
    with pytest.raises(ValueError, match="'map.png' is cut off or corrupt"):
        decode_image(_png_header(10_000, 5_000), name="map.png")


@pytest.mark.reliability(11)
@pytest.mark.parametrize("size", [(2_000, 1), (1, 2_000), (101, 1), (50_000, 499)])
def test_thin_images_are_refused_before_decoding(size):
    """An encoder scales the shorter side to its own: a line of 2,000 x 1 became 448,000 x 224."""
    message = f"'line.png' must have a longer side of at most 100 times the shorter one. Got {size[0]} x {size[1]}."
    with pytest.raises(ValueError, match=message):
        decode_image(_png_header(*size), name="line.png")


def test_a_hundred_to_one_is_an_image(encode):
    assert decode_image(encode(Image.new("RGB", (100, 1)), "PNG"), name="x").size == (100, 1)
    with pytest.raises(ValueError, match="'x' is cut off or corrupt"):
        decode_image(_png_header(500, 50_000), name="x")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_decoded_upright(encode, real_image):
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    data = encode(real_image.transpose(Image.Transpose.ROTATE_90), "AVIF", quality=95, exif=exif)
    assert _difference(decode_image(data, name="x"), real_image) < 6


def test_endings_are_looked_up_in_lower_case_and_are_of_one_kind():
    assert {file_ending(name) for name in ("a/b.JPG", "b.c.Jpg", "jpg/b.jpg")} == {"jpg"}
    assert {file_ending(name) for name in ("jpg", ".jpg", "a.jpg/b", "")} == {""}
    assert not IMAGE_ENDINGS & UNREAD_ENDINGS
    assert {"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "jfif"} <= IMAGE_ENDINGS
    known = Image.registered_extensions()
    assert {known[f".{ending}"] for ending in IMAGE_ENDINGS} == set(FORMATS)


def test_unbounded_pixel_types_are_refused(encode):
    with pytest.raises(ValueError, match="'x.tif' holds floating-point pixels"):
        decode_image(encode(Image.new("F", (2, 2), 0.5), "TIFF"), name="x.tif")
    with pytest.raises(ValueError, match="'x.tif' must have at most 16 bits a pixel. Got values from 70000 to 70000"):
        decode_image(encode(Image.new("I", (2, 2), 70_000), "TIFF"), name="x.tif")


@pytest.mark.reliability(11)
def test_pillows_globals_are_left_alone(encode, real_image):
    limit, lenient = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    decode_image(encode(real_image), name="x")
    assert limit == Image.MAX_IMAGE_PIXELS
    assert lenient == ImageFile.LOAD_TRUNCATED_IMAGES
