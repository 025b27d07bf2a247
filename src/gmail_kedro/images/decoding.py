"""Turns encoded images, as found on disks and the web, into RGB pixels, or says why not.

Every image of the project comes through here, so that training and evaluation see the same pixels. Pillow's global
switches (``MAX_IMAGE_PIXELS``, ``LOAD_TRUNCATED_IMAGES``) are left as they are: other libraries share them.
"""

import io
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError, features

_ENDINGS = {  # by Pillow's name of the format; EPS is left out, since Pillow runs Ghostscript to read it
    "JPEG": ("jpg", "jpeg", "jpe", "jfif"),
    "PNG": ("png",),
    "WEBP": ("webp",),
    "GIF": ("gif",),
    "BMP": ("bmp",),
    "TIFF": ("tif", "tiff"),
    "JPEG2000": ("jp2", "j2k"),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
    "AVIF": ("avif",),
}
# Wheels of Pillow may come without AVIF: its files are then counted among those that are not read.
FORMATS = tuple(name for name in _ENDINGS if name != "AVIF" or features.check("avif"))
IMAGE_ENDINGS = frozenset(ending for name in FORMATS for ending in _ENDINGS[name])
# Images that cameras and phones write and Pillow does not read: they are counted, not taken for something else.
_CAMERA_ENDINGS = {"heic", "heif", "hif", "dng", "raw", "cr2", "cr3", "nef", "arw", "orf", "raf", "rw2"}
UNREAD_ENDINGS = frozenset(_CAMERA_ENDINGS | {"avif", "jxl", "svg", "psd", "tga", "ico"}) - IMAGE_ENDINGS

PIXEL_LIMIT = 50_000_000
RATIO_LIMIT = 100  # an encoder scales the shorter side: 100 pixels beside one become 22,400 beside 224
# ImageOps.exif_transpose would also write the EXIF data anew, which nobody reads.
ORIENTATION_TAG = 0x0112
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
IMPOSTORS = {  # what dead links and unfinished downloads leave in a file called .jpg
    b"<!doctype html": "an HTML page",
    b"<html": "an HTML page",
    b"<svg": "an SVG drawing",
    b"<?xml": "an XML or SVG document",
    b"version https://git-lfs": "a Git LFS pointer",
}
# All of these come out of Pillow's plugins on damaged bytes.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def file_ending(name: str) -> str:
    """Returns what follows the last dot of a file's name, in lower case; nothing for ``.hidden``."""
    stem, _, ending = name.rpartition("/")[2].rpartition(".")
    return ending.lower() if stem else ""


def unread_format(ending: str) -> str:
    """Returns the reason under which images with one of ``UNREAD_ENDINGS`` are counted."""
    return f"image in a format that is not read here ({ending})"


def decode_image(jpeg: bytes, *, name: str) -> Image.Image:
    """Returns the whole image in RGB, upright.

    The EXIF orientation is applied; palettes, grey, CMYK and 16-bit grey are converted (16 bits by scaling, not by
    clipping); transparent parts become white. Of an animation the first frame is taken.

    Args:
        jpeg: The encoded image in one of ``FORMATS``, whatever its file is called.
        name: What the messages call it.

    Raises:
        ValueError: If it is empty, no image, cut off, corrupt, larger than 50 megapixels, thinner than 100 to 1 or
            of a pixel type that has no meaning as RGB; the message names the image and the remedy.
    """
    image = _open(jpeg, name)
    try:
        image.load()
    except _BROKEN as error:
        raise ValueError(
            f"The image {name!r} is cut off or corrupt ({len(jpeg)} bytes: {error}). Fetch it again or leave it out."
        ) from error
    return _to_rgb(_upright(image), name)


def _open(jpeg: bytes, name: str) -> Image.Image:
    """Reads the header only."""
    start = jpeg[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for mark, what in IMPOSTORS.items():
        if start.startswith(mark):
            raise ValueError(f"The image {name!r} is {what}, not an image. Fetch the image itself.")
    if not jpeg:
        raise ValueError(f"The image {name!r} is an empty file. Fetch it again or leave it out.")
    try:
        image = Image.open(io.BytesIO(jpeg), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(_too_large(name, "more than 89 million")) from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"The image {name!r} is not in a known format ({', '.join(FORMATS)}); it begins with {jpeg[:8]!r}. "
            "Fetch it again, convert it or leave it out."
        ) from error
    except _BROKEN as error:
        raise ValueError(f"The header of the image {name!r} is corrupt ({error}). Fetch it again.") from error
    if image.width * image.height > PIXEL_LIMIT:
        raise ValueError(_too_large(name, f"{image.width} x {image.height}"))
    if max(image.size) > RATIO_LIMIT * min(image.size):
        raise ValueError(
            f"The image {name!r} must have a longer side of at most {RATIO_LIMIT} times the shorter one. Got "
            f"{image.width} x {image.height}. Crop it or leave it out."
        )
    return image


def _too_large(name: str, pixels: str) -> str:
    return (
        f"The image {name!r} must have at most {PIXEL_LIMIT // 1_000_000} million pixels. Got {pixels}. "
        "Scale it down or leave it out."
    )


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
    except _BROKEN:  # damaged metadata says nothing about the pixels, which are whole
        orientation = 1
    turn = ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError(
            f"The image {name!r} holds floating-point pixels, whose range is unknown. Save it with 8 bits a channel."
        )
    if image.mode.startswith("I"):
        return _from_16_bit(image, name)
    if image.has_transparency_data:
        layered = image if image.mode == "RGBA" else image.convert("RGBA")
        page = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(page, layered).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy it


def _from_16_bit(image: Image.Image, name: str) -> Image.Image:
    pixels = np.asarray(image).astype(np.int32)
    low, high = int(pixels.min()), int(pixels.max())
    if low < 0 or high > 65535:
        raise ValueError(
            f"The image {name!r} must have at most 16 bits a pixel. Got values from {low} to {high}. "
            "Save it with 8 bits a channel."
        )
    pixels += 128  # 257 is odd: this rounds, in a fraction of the memory that a division in float64 takes
    pixels //= 257
    return Image.fromarray(pixels.astype(np.uint8)).convert("RGB")
