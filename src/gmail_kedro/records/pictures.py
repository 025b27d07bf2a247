"""Generated pictures before they are written: made batch by batch, refused if they show nothing, encoded."""

import io
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from gmail_kedro.interfaces import Decoded, ImageGenerator, ImageRecord

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
            f"The picture {key!r} is {image.width} x {image.height} pixels; expected {resolution} x {resolution}. "
            f"{advice}"
        )
    pixels = np.asarray(image.convert("RGB"))
    colour = tuple(pixels[0, 0].tolist())
    if (pixels == pixels[0, 0]).all():
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


class PictureMaker:
    """Makes the records of a batch of plan rows; the model is built when the first batch is asked for.

    Args:
        build_generator: Builds the image generator.
        settings: With ``revision``, ``resolution`` and ``jpeg_quality``; all of them go into the records' facts.
    """

    def __init__(self, build_generator: Callable[[], ImageGenerator], settings: Mapping[str, Any]) -> None:
        self._build_generator = build_generator
        self._settings = settings

    @cached_property
    def generator(self) -> ImageGenerator:
        """The image generator.

        Raises:
            ValueError: If its weights are not the ones the settings name.
        """
        generator = self._build_generator()
        if generator.revision != self._settings["revision"]:
            raise ValueError(
                f"The generator {generator.name!r} has revision {generator.revision}; expected "
                f"{self._settings['revision']}. Its weights changed while the run started. Start again: {RESUME}"
            )
        return generator

    def make(self, rows: list[dict[str, Any]]) -> list[ImageRecord]:
        """Returns the records of one batch.

        Args:
            rows: Plan rows, all of one shard.

        Raises:
            ValueError: If a picture could not be decoded, or ``refuse_bad_image`` refuses it.
            RuntimeError: If the generator fails; the message names the captions.
        """
        images = []
        for row, made in zip(rows, self._generate(rows), strict=True):
            if made.image is None:
                raise ValueError(
                    f"The picture {row['key']!r} could not be made ({made.fault}). Finished batches are kept. "
                    f"Change the prompt, seed or generator, then: {RESUME}"
                )
            refuse_bad_image(made.image, row["key"], self._settings["resolution"])
            images.append(made.image)
        return [self._record(row, image) for row, image in zip(rows, images, strict=True)]

    def _generate(self, rows: list[dict[str, Any]]) -> list[Decoded]:
        generator = self.generator
        try:
            images = generator.generate([row["prompt"] for row in rows], [row["seed"] for row in rows])
            if len(images) != len(rows):
                raise ValueError(f"{len(images)} pictures came for {len(rows)} prompts")
        except Exception as error:
            raise RuntimeError(
                f"The generator {generator.name!r} failed on the captions {[row['caption_id'] for row in rows]} of "
                f"shard {rows[0]['shard_id']}: {type(error).__name__}: {error}. Finished batches are kept; "
                f"go on with: {RESUME} (out of memory: lower generation.batch_size first)"
            ) from error
        return images

    def _record(self, row: dict[str, Any], image: "Image") -> ImageRecord:
        facts = {name: row[name] for name in ("caption_id", "image_id", "sample_index", "prompt", "seed")}
        facts["truncated"] = self.generator.count_truncated([row["prompt"]]) > 0
        jpeg = encode_jpeg(image, self._settings["jpeg_quality"])
        return ImageRecord(row["key"], jpeg, {**facts, **self._settings})
