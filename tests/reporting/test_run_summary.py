"""The words at the end of a run."""

import pytest

from gmail_kedro.reporting.run_summary import summarize


@pytest.fixture
def scores() -> dict:
    empty = {"scores": {}, "intervals": {}}
    gap = {"paired_cosine_before": 0.69, "probe_auc_before": 0.72, "centroid_distance_before": 0.14}
    protocol = {
        "corpus": "mini", "split": "test", "image_count": 500, "encoder": "mini_clip", "generator": "mini_sd",
        "generated_set": "abc", "generated_image_count": 1200, "real_path": "frozen",
    }  # fmt: skip
    return {
        **dict.fromkeys(("captioning", "retrieval", "classification"), empty),
        "gap": {"scores": gap, "intervals": {}},
        "protocol": protocol,
    }


def test_the_codec_matched_gap_stands_beside_the_stored_one(scores: dict):
    scores["gap"]["codec_matched"] = {
        "scores": {
            "probe_auc_before": 0.61, "probe_auc_after": 0.55,
            "centroid_distance_before": 0.12, "centroid_distance_after": 0.03,
        },
        "intervals": {"probe_auc_after": {"mean": 0.55, "low": 0.5, "high": 0.6}},
        "codec_size": 32,
        "codec_quality": 75,
    }  # fmt: skip
    summary = summarize("main", scores, {})
    assert "Before alignment: paired cosine 0.690, probe AUC 0.720" in summary
    assert "resize (32 px) and JPEG (quality 75)" in summary
    assert "probe AUC 0.610 before alignment, 0.550 [0.500, 0.600] after; centroid distance 0.120 and 0.030" in summary


def test_a_run_of_before_the_control_has_no_such_line(scores: dict):
    assert "resize" not in summarize("main", scores, {"older": scores})


def test_zero_shot_lists_nothing_tuned_and_says_which_path_real_images_take(scores: dict):
    scores["retrieval"] = {"scores": {"i2t_r1": 51.2, "tuned_i2t_r1": 71.5}, "intervals": {}}
    summary = summarize("main", scores, {})
    table, zero_shot = summary.split("## Zero-shot")
    assert "71.5" in table and "tuned" not in zero_shot and "| i2t_r1 | 51.2 |" in zero_shot
    assert "frozen teacher" in zero_shot
    scores["protocol"]["real_path"] = "lora_proj"
    assert "this run's own, lora_proj" in summarize("main", scores, {})
