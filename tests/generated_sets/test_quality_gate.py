"""Test 6 of the fault tests: what shows nothing is refused, with the reason, and nothing else is."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.generated_sets.image_maker import encode_jpeg
from gmail_kedro.generated_sets.quality_gate import (
    QualityGate,
    QuarantineError,
    QuarantineLimit,
    ShardJudge,
    Verdict,
    add_verdict,
    forget_verdict,
    hash_image,
)
from gmail_kedro.interfaces import ImageRecord

from .painting import paint, quality_params

pytestmark = pytest.mark.reliability(6)


def record(image: Image.Image | None, key: str = "c/0", **facts: object) -> ImageRecord:
    return ImageRecord(key, encode_jpeg(image, 90) if image else b"", {"prompt": "a", **facts})


def flat(*colour: int) -> Image.Image:
    return Image.new("RGB", (32, 32), colour)


def speck(colour: tuple[int, int, int], on: Image.Image) -> Image.Image:
    on.putpixel((5, 5), colour)
    return on


def gate(**changes: object) -> QualityGate:
    return QualityGate(quality_params(**changes), resolution=32)


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        (record(flat(0, 0, 0)), "black", "its brightest pixel is 0"),
        (record(speck((6, 6, 6), flat(0, 0, 0))), "black", "more than 8 expected"),
        (record(Image.new("L", (32, 32), 0)), "black", "its brightest pixel is 0"),
        (record(flat(255, 255, 255)), "blank", r"one colour, \(255, 255, 255\)"),
        (record(flat(90, 80, 70)), "blank", "it is of one colour"),
        (record(speck((160, 80, 70), flat(90, 80, 70))), "near_constant", "deviate by .*at least 4 expected"),
        (record(paint("c", 1).resize((32, 16))), "wrong_size", "32 x 16 pixels; expected 32 x 32"),
        (record(None, fault="not_finite"), "not_finite", "NaN or infinite"),
        (record(None, fault="safety"), "safety", "safety checker"),
        (record(None, fault="failed", detail="ValueError: x"), "failed", "ValueError: x"),
    ],
)
def test_refuses_an_image_that_shows_nothing(bad: ImageRecord, reason: str, detail: str) -> None:
    (looked,) = gate().look([bad])
    assert looked.verdict.reason == reason
    with pytest.raises(AssertionError, match=detail):
        raise AssertionError(looked.verdict.detail)


def test_accepts_images_with_something_in_them() -> None:
    dark = flat(0, 0, 0)
    dark.paste((40, 30, 30), (8, 8, 20, 20))
    pale = flat(250, 250, 250)
    pale.paste((230, 250, 250), (8, 8, 20, 20))
    assert [looked.verdict for looked in gate().look([record(dark), record(pale), record(paint("c", 1))])] == [
        Verdict()
    ] * 3


def judge_all(*records: ImageRecord, **changes: object) -> list[str]:
    the_gate = gate(**changes)
    judge, reasons = ShardJudge(the_gate.params.duplicate_distance, {}), []
    for looked in the_gate.look(records):
        reasons.append(judge.judge(looked).reason)
        if not reasons[-1]:
            judge.accept(looked)
    return reasons


def noise(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 32, 3), dtype=np.uint8))


def test_a_near_duplicate_is_the_later_one() -> None:
    almost = Image.fromarray(np.clip(np.asarray(noise(1)).astype(int) + 6, 0, 255).astype(np.uint8))
    images = [record(noise(1), "a/0"), record(noise(2), "b/0"), record(almost, "a/1"), record(noise(1), "c/0")]
    assert judge_all(*images) == ["", "", "duplicate", "duplicate"]
    assert judge_all(*images, duplicate_distance=None) == [""] * 4


def test_a_refused_image_makes_no_duplicates() -> None:
    small = record(paint("c", 1).resize((16, 16)), "a/0")
    assert judge_all(small, record(paint("c", 1), "a/1")) == ["wrong_size", ""]


def test_earlier_samples_of_the_same_caption_in_other_shards_count() -> None:
    the_gate = gate()
    judge = ShardJudge(the_gate.params.duplicate_distance, {"a": [("a/0", hash_image(noise(1)))]})
    own, other = the_gate.look([record(noise(1), "a/1", caption_id="a"), record(noise(1), "b/1", caption_id="b")])
    assert judge.judge(own).detail.startswith("it differs from 'a/0' in ")
    assert judge.judge(other) == Verdict()


def test_the_same_form_in_another_colour_is_no_duplicate() -> None:
    red, blue = flat(255, 255, 255), flat(255, 255, 255)
    red.paste((220, 20, 20), (8, 4, 18, 28))
    blue.paste((20, 20, 220), (8, 4, 18, 28))
    assert judge_all(record(red, "a/0"), record(blue, "b/0")) == ["", ""]
    distance = np.bitwise_count(hash_image(red) ^ hash_image(blue)).sum()
    assert distance > 20


def scored(scores: dict[str, float], **changes: object) -> QualityGate:
    built.clear()

    def build():
        built.append(1)
        return lambda images, captions: np.array([scores[caption] for caption in captions])

    return QualityGate(quality_params(**changes), resolution=32, scorer_name="reader", build_scorer=build)


built: list[int] = []


def test_a_low_caption_score_is_refused_and_only_sound_images_are_scored() -> None:
    the_gate = scored({"good": 0.4, "bad": 0.1, "lost": float("nan")}, min_caption_score=0.2)
    images = [replace(record(noise(row)), facts={"prompt": text}) for row, text in enumerate(("good", "bad", "lost"))]
    black = replace(record(flat(0, 0, 0)), facts={"prompt": "never scored"})
    verdicts = [looked.verdict for looked in the_gate.look([*images, black])]
    assert [verdict.reason for verdict in verdicts] == ["", "caption_score", "caption_score", "black"]
    assert verdicts[1].detail == "reader gives 0.100; 0.2 expected"
    the_gate.look(images)
    assert built == [1]


def test_no_scorer_is_built_where_no_score_is_asked_for() -> None:
    the_gate = scored({}, min_caption_score=None)
    assert the_gate.look([record(noise(1))])[0].verdict == Verdict()
    assert (built, the_gate.settings["scorer"]) == ([], "")
    with pytest.raises(ValueError, match="min_caption_score is set, but there is no encoder"):
        QualityGate(quality_params(min_caption_score=0.1), resolution=32)


def test_limits_of_the_run_do_not_belong_to_the_gate() -> None:
    names = {"black_level", "min_deviation", "duplicate_distance", "min_caption_score", "retries", "scorer"}
    assert gate().settings.keys() == names
    assert scored({}, min_caption_score=0.1).settings["scorer"] == "reader"


def test_a_verdict_can_be_added_and_taken_back() -> None:
    for before in (record(noise(1), seed=3), record(None, fault="failed", detail="ValueError: x")):
        after = add_verdict(before, Verdict("black", before.facts.get("detail", "its brightest pixel is 0")))
        assert after.facts["reason"] == "black" and after.facts["detail"]
        assert forget_verdict(after) == before


def limit_of(*reasons: str, limit: float = 0.1, after: int = 10) -> QuarantineLimit:
    counted = QuarantineLimit(limit, after=after, home="/sets/q")
    for row, reason in enumerate(reasons):
        counted.add(1, {f"c{row}/0": Verdict(reason, f"detail {row}")} if reason else {})
    return counted


def test_too_many_refusals_end_the_run_with_the_table_of_reasons() -> None:
    limit = limit_of("black", "", "duplicate", "black", *[""] * 6)
    with pytest.raises(QuarantineError, match=r"3 of the 10 images .* \(30.0%\); quality.max_quarantined .*10.0%") as e:
        limit.check()
    assert "\n| black | 2 | c0/0: detail 0 |\n| duplicate | 1 | c2/0: detail 2 |\n" in str(e.value)
    assert "/sets/q" in str(e.value)


def test_few_images_are_not_judged_by_their_share_until_there_are_no_more() -> None:
    limit = limit_of("black", "black", "")
    limit.check()
    with pytest.raises(QuarantineError, match="2 of the 3"):
        limit.check(is_final=True)
    limit.add(17, {})
    limit.check(is_final=True)  # 2 of 20 is the limit, not above it
