import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.generated_sets import set_statistics
from gmail_kedro.generated_sets.set_statistics import measure_images, spread

from .complete_sets import make_set
from .painting import make_captions
from .test_verify import PICKY


class Images(dict):
    """Encoded images by key."""

    def read(self, key: str) -> bytes:
        return self[key]


def encode(pixels: np.ndarray, quality: int = 95) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def draw(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3))
    return coarse.repeat(16, axis=0).repeat(16, axis=1)


def statistics_of(made) -> dict:
    return set_statistics.set_statistics(made, measure_images(made.images, made.made["key"].tolist()))


def test_brightness_and_contrast_are_those_of_the_pixels():
    flat = [np.full((32, 32, 3), level) for level in (50, 100, 150)]
    figures = measure_images(Images(enumerate(map(encode, flat))), [0, 1, 2])
    assert figures.brightness_mean == pytest.approx(100, abs=1)
    assert figures.brightness_std == pytest.approx(np.std([50, 100, 150]), abs=1)
    assert figures.contrast_mean < 1


def test_an_image_encoded_again_is_a_near_duplicate_and_others_are_not():
    images = Images({f"{seed}": encode(draw(seed)) for seed in range(20)})
    assert measure_images(images, list(images)).near_duplicate_count == 0
    images["again"] = encode(draw(7), quality=85)
    assert measure_images(images, list(images)).near_duplicate_count == 2


def test_of_a_large_set_an_evenly_spread_part_is_looked_at(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(set_statistics, "LOOKED_AT_MOST", 5)
    images = Images({key: encode(draw(key)) for key in (0, 25, 50, 74, 99)})
    assert measure_images(images, range(100)).looked_at_count == 5
    assert spread(range(3), 5) == [0, 1, 2]


def test_one_image_is_enough_and_none_is_refused():
    assert measure_images(Images(a=encode(draw(0))), ["a"]).near_duplicate_count == 0
    with pytest.raises(ValueError, match="no image to look at"):
        measure_images(Images(), [])


def test_counts_prompts_and_samples_are_those_of_the_manifest(tmp_path: Path):
    captions = make_captions(image_count=3)
    captions.loc[0, "caption"] = "more words than the painter reads at all"
    found = statistics_of(make_set(tmp_path / "painted", captions, samples_per_caption=2))
    assert found["counts"] == {
        "planned": 12,
        "made": 12,
        "quarantined": 0,
        "photographs": 3,
        "captions": 6,
        "shards": 4,
    }
    assert found["samples_per_caption"] == {"2": 6} and found["quarantine"] == {}
    assert found["prompts"] == {"distinct": 6, "words_min": 4, "words_median": 4.0, "words_max": 8, "truncated": 2}
    assert found["pictures"]["identical_count"] == 0 and found["pictures"]["looked_at_count"] == 12


def test_quarantined_images_are_counted_by_reason_and_not_looked_at(tmp_path: Path):
    made = make_set(tmp_path / "judged", quality=PICKY)
    found = statistics_of(made)
    refused = len(made.manifest) - len(made.made)
    assert found["quarantine"] == {"near_constant": refused} and found["counts"]["quarantined"] == refused > 0
    assert found["samples_per_caption"] == {"0": refused, "1": 10 - refused}
    assert found["pictures"]["looked_at_count"] == found["counts"]["made"] == 10 - refused
