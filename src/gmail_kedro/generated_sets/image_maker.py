"""Generated images before they are judged: denoised, decoded, encoded, and apart from one another if some fail."""

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gmail_kedro.generated_sets.quality_gate import FAULTS
from gmail_kedro.interfaces import Decoded, ImageGenerator, ImageRecord

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

RESUME = "kedro run --pipeline=generation"
MAX_ERROR_CHARACTERS = 300

Row = dict[str, Any]


class GeneratorError(RuntimeError):
    """The generator failed on a whole batch; what it raised is the cause."""


@dataclass(frozen=True)
class Denoised:
    """A batch half way: rows of the plan and the latents they became."""

    rows: Sequence[Row]  # plan rows
    truncated: Sequence[bool]  # whether the generator cuts the prompt, for each row
    latents: "torch.Tensor"  # of shape [B, ...]


def encode_jpeg(image: "Image", quality: int) -> bytes:
    """Returns an image as JPEG without chroma subsampling and without metadata.

    Args:
        image: The image.
        quality: 1 to 95.
    """
    plain = image.convert("RGB")
    plain.info.clear()  # Pillow writes the comment, EXIF and ICC profile that an image was opened with
    buffer = io.BytesIO()
    # 4:4:4: the default halves colour's resolution, which training would take for a mark of generated images.
    plain.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def retry_seed(seed: int, retry: int) -> int:
    """Returns the seed, in [0, 2^63), that a row is made with at its ``retry``-th new attempt; the 0th is its own."""
    if not retry:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed}/retry/{retry}".encode()).digest()[:8], "big") >> 1


class ImageMaker:
    """Makes the records of plan rows in two steps; the model is built when the first batch is asked for.

    ``denoise`` belongs to the thread that owns the generator; ``decode`` may run in another while it denoises on.

    Args:
        build_generator: Builds the image generator.
        settings: With ``revision``, ``resolution`` and ``jpeg_quality``; all of them go into the records' facts.
    """

    def __init__(self, build_generator: Callable[[], ImageGenerator], settings: Mapping[str, Any]) -> None:
        self._build_generator = build_generator
        self._settings = settings
        self._works = False

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

    def denoise(self, rows: Sequence[Row]) -> Denoised:
        """Returns a batch half way.

        Raises:
            GeneratorError: If the generator fails; ``make_apart`` finds out on which rows.
            ValueError: If the generator has other weights than the settings name.
        """
        generator = self.generator
        # Counted here: a tokenizer must not be used by two threads at once.
        prompts = [row["prompt"] for row in rows]
        truncated = [False] * len(rows)
        if generator.count_truncated(prompts):  # one by one only where there is one: tokenizers are fast on many
            truncated = [generator.count_truncated([prompt]) > 0 for prompt in prompts]
        try:
            latents = generator.denoise(prompts, [row["seed"] for row in rows])  # [B, ...]
        except Exception as error:  # whatever a model library raises, out of memory above all
            raise GeneratorError from error
        return Denoised(rows, truncated, latents)

    def decode(self, batch: Denoised) -> list[ImageRecord]:
        """Returns the records of a batch; an image with a fault has no JPEG, and the fault is among its facts.

        Raises:
            GeneratorError: If the generator fails.
        """
        try:
            images = self.generator.decode(batch.latents)
            if len(images) != len(batch.rows):
                raise ValueError(f"{len(images)} images came for {len(batch.rows)} prompts")
        except Exception as error:
            raise GeneratorError from error
        self._works = True
        return [self._record(*made) for made in zip(batch.rows, batch.truncated, images, strict=True)]

    def make(self, row: Row, retry: int) -> ImageRecord:
        """Returns the record of one row, made with its ``retry``-th other seed."""
        row = {**row, "seed": retry_seed(row["seed"], retry), "retry": retry}
        (outcome,) = self._attempt([row])
        return outcome if isinstance(outcome, ImageRecord) else self._failed(row, outcome)

    def make_apart(self, rows: Sequence[Row], error: GeneratorError) -> list[ImageRecord]:
        """Returns the records of a batch on which the generator failed, made in ever smaller parts.

        Rows that fail alone are marked as failed. If all do, it is not they that are at fault.

        Args:
            rows: The rows of the batch.
            error: What happened to the whole.

        Raises:
            RuntimeError: If no row could be made (of a batch of one: if none was made before either); the message
                names the captions.
        """
        outcomes: list[ImageRecord | GeneratorError] = [error]
        if len(rows) > 1:
            middle = len(rows) // 2
            outcomes = self._attempt(rows[:middle]) + self._attempt(rows[middle:])
        made = [outcome for outcome in outcomes if isinstance(outcome, ImageRecord)]
        # A lone row that fails right after another lone one: no longer the row, but the machine or the settings.
        if not made and (len(rows) > 1 or not self._works):
            cause = error.__cause__
            raise RuntimeError(
                f"The generator {self.generator.name!r} failed on the captions {[row['caption_id'] for row in rows]} "
                f"of shard {rows[0]['shard_id']}: {type(cause).__name__}: {cause}. Whole shards are kept; "
                f"go on with: {RESUME} (out of memory: lower generation.batch_size first)"
            ) from cause
        self._works = bool(made)
        return [
            outcome if isinstance(outcome, ImageRecord) else self._failed(row, outcome)
            for row, outcome in zip(rows, outcomes, strict=True)
        ]

    def _attempt(self, rows: Sequence[Row]) -> "list[ImageRecord | GeneratorError]":
        """Returns for each row its record, or why the generator fails on it alone."""
        try:
            return [*self.decode(self.denoise(rows))]
        except GeneratorError as error:
            if len(rows) == 1:
                return [error]
        middle = len(rows) // 2  # halves: one bad row of 8 costs 7 calls, and a batch too large is made in parts
        return self._attempt(rows[:middle]) + self._attempt(rows[middle:])

    def _record(self, row: Row, truncated: bool, made: Decoded) -> ImageRecord:
        facts = self._facts(row) | {"truncated": truncated}
        if made.image is not None:
            return ImageRecord(row["key"], encode_jpeg(made.image, self._settings["jpeg_quality"]), facts)
        return ImageRecord(row["key"], b"", facts | {"fault": made.fault, "detail": FAULTS.get(made.fault, made.fault)})

    def _failed(self, row: Row, error: GeneratorError) -> ImageRecord:
        cause = error.__cause__
        detail = f"{FAULTS['failed']}: {type(cause).__name__}: {cause}"[:MAX_ERROR_CHARACTERS]
        return ImageRecord(
            row["key"], b"", self._facts(row) | {"truncated": False, "fault": "failed", "detail": detail}
        )

    def _facts(self, row: Row) -> dict[str, Any]:
        facts = {name: row[name] for name in ("caption_id", "image_id", "sample_index", "prompt", "seed")}
        return {**facts, **self._settings, **({"retry": row["retry"]} if row.get("retry") else {})}
