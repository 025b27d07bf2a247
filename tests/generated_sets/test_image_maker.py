import io
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from gmail_kedro.generated_sets.image_maker import GeneratorError, ImageMaker, encode_jpeg, retry_seed
from gmail_kedro.interfaces import Decoded, ImageRecord

from .painting import SETTINGS, Painter, read_stamp, stamp


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


def make(maker: ImageMaker, rows: Sequence[dict[str, object]]) -> list[ImageRecord]:
    """Returns the records of a batch, as a shard is filled."""
    try:
        return maker.decode(maker.denoise(rows))
    except GeneratorError as error:
        return maker.make_apart(rows, error)


def test_facts_say_what_made_the_image() -> None:
    short, long = make(ImageMaker(Painter, SETTINGS), [row(0), row(4)])
    assert short.facts["prompt"] == "one"
    assert (short.facts["truncated"], long.facts["truncated"]) == (False, True)
    assert short.facts["generator"] == "painter"
    assert short.key == "c0/0"
    assert not {"retry", "fault"} & short.facts.keys()


def test_a_failing_generator_is_reported_with_the_captions_of_its_batch() -> None:
    def explode() -> None:
        raise MemoryError("CUDA out of memory")

    maker = ImageMaker(lambda: Painter(before=explode), SETTINGS)
    with pytest.raises(
        RuntimeError, match=r"'painter' failed on the captions \['c0', 'c1'\] of shard 00003.*MemoryError"
    ):
        make(maker, [row(0), row(1)])


def test_too_few_images_are_refused() -> None:
    class Lazy(Painter):
        def decode(self, latents):
            return super().decode(latents)[:-1]

    with pytest.raises(RuntimeError, match="1 images came for 2 prompts"):
        make(ImageMaker(Lazy, SETTINGS), [row(0), row(1)])


def test_weights_that_changed_are_refused() -> None:
    with pytest.raises(ValueError, match="'painter' has revision paint-1; expected paint-2"):
        make(ImageMaker(Painter, SETTINGS | {"revision": "paint-2"}), [row(0)])


@pytest.mark.parametrize("fault", ["not_finite", "safety"])
def test_a_fault_leaves_a_record_without_an_image(fault: str) -> None:
    class Faulty(Painter):
        def decode(self, latents):
            return [super().decode(latents)[0], Decoded(None, fault)]

    good, bad = make(ImageMaker(Faulty, SETTINGS), [row(0), row(1)])
    assert good.jpeg
    assert (bad.jpeg, bad.facts["fault"], bad.facts["prompt"]) == (b"", fault, row(1)["prompt"])


class Picky(Painter):
    """Fails on the batches that hold a certain seed, or are too large for its memory."""

    def __init__(self, poison: int | None, memory: int = 8) -> None:
        super().__init__()
        self.poison, self.memory, self.batches = poison, memory, []

    def denoise(self, prompts, seeds):
        self.batches.append(list(seeds))
        if len(seeds) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if self.poison in seeds:
            raise ValueError(f"no image of {self.poison}")
        return super().denoise(prompts, seeds)


@pytest.mark.reliability(7)
def test_a_batch_that_fails_is_split_and_only_the_row_at_fault_fails() -> None:
    generator = Picky(poison=5)
    records = make(ImageMaker(lambda: generator, SETTINGS), [row(number) for number in range(8)])
    assert [record.key for record in records] == [f"c{number}/0" for number in range(8)]
    failed = [record for record in records if not record.jpeg]
    assert [record.key for record in failed] == ["c5/0"]
    assert failed[0].facts["fault"] == "failed"
    assert failed[0].facts["detail"].endswith("ValueError: no image of 5")
    assert all(read_stamp(record.jpeg) == stamp(record.facts["prompt"], record.facts["seed"]) for record in records[:5])
    assert len(generator.batches) == 7  # eight, its halves, one's quarters, one's eighths


@pytest.mark.reliability(7)
def test_a_batch_that_needs_too_much_memory_is_made_in_parts() -> None:
    generator = Picky(poison=None, memory=2)
    records = make(ImageMaker(lambda: generator, SETTINGS), [row(number) for number in range(8)])
    assert all(record.jpeg for record in records)
    assert [len(batch) for batch in generator.batches if len(batch) <= 2] == [2] * 4


def test_a_lone_row_fails_only_if_the_generator_worked_before() -> None:
    maker = ImageMaker(lambda: Picky(poison=5), SETTINGS)
    with pytest.raises(RuntimeError, match=r"failed on the captions \['c5'\]"):
        make(maker, [row(5)])
    make(maker, [row(1)])
    assert make(maker, [row(5)])[0].facts["fault"] == "failed"
    with pytest.raises(RuntimeError, match=r"failed on the captions \['c5'\]"):
        make(maker, [row(5)])  # nothing worked in between: it is not the row


def test_a_retry_has_a_seed_of_its_own_and_says_so() -> None:
    record = ImageMaker(Painter, SETTINGS).make(row(4), 2)
    assert (record.facts["retry"], record.facts["seed"]) == (2, retry_seed(4, 2))
    assert read_stamp(record.jpeg) == stamp(row(4)["prompt"], retry_seed(4, 2))
    seeds = [retry_seed(seed, retry) for seed in range(50) for retry in range(4)]
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert retry_seed(4, 0) == 4


def test_a_retry_that_fails_is_a_failed_record() -> None:
    maker = ImageMaker(lambda: Picky(poison=retry_seed(4, 1)), SETTINGS)
    record = maker.make(row(4), 1)
    assert (record.jpeg, record.facts["fault"], record.facts["retry"]) == (b"", "failed", 1)
