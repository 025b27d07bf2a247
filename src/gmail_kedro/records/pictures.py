"""Generated pictures before they are written: which are refused, and how they are encoded."""

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

RESUME = "kedro run --pipeline=generation"


def refuse_bad_image(image: "Image", key: str, resolution: int) -> None:
    """Refuses a picture that must not reach training.

    Args:
        image: The picture.
        key: Names it in the message.
        resolution: Height and width it must have, in pixels.

    Raises:
        ValueError: If it has another size or is of a single colour, as a safety filter's black picture is.
    """
    advice = f"Finished batches are kept. Change the prompt, seed or generator, then: {RESUME}"
    if image.size != (resolution, resolution):
        raise ValueError(
            f"The picture {key!r} is {image.width} x {image.height} pixels; expected {resolution} x {resolution}. {advice}"
        )
    ranges = image.convert("RGB").getextrema()
    if all(low == high for low, high in ranges):
        colour = tuple(low for low, _ in ranges)
        kind = "all black (a safety filter or NaN latents do this)" if not any(colour) else f"of one colour {colour}"
        raise ValueError(f"The picture {key!r} is {kind}; it shows nothing of its prompt. {advice}")


def encode_jpeg(image: "Image", quality: int) -> bytes:
    """Returns a picture as JPEG without chroma subsampling and without metadata.

    Args:
        image: The picture.
        quality: 1 to 95.
    """
    plain = image.convert("RGB")
    plain.info.clear()
    buffer = io.BytesIO()
    plain.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
