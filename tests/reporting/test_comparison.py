"""Two runs side by side: what is tested, what is refused, and what is shown."""

from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gmail_kedro.pipelines.reporting.nodes import compare_items, draw_captions_figure
from gmail_kedro.reporting.comparison import SAME_COLUMN, Number, difference, differing_protocol, mean_over_seeds
from gmail_kedro.reporting.run_summary import summarize

IMAGES = [str(number) for number in range(40)]
PROTOCOL = {
    "corpus": "mini", "split": "test", "image_count": 40, "retrieval_protocol": None, "caption_tokenizer": "simple",
    "encoder": "mini_clip", "generated_set": "abc", "seed": 3, "real_path": "frozen", "generated_image_count": 9,
    "generator": "mini_sd",
}  # fmt: skip


def items(values, measure="cider", images=IMAGES):
    return pd.DataFrame({"image_id": images, "measure": measure, "value": values})


def scores(**changes):
    return {"protocol": PROTOCOL | changes}


def test_the_test_is_paired_by_real_image_and_not_by_row():
    rng = np.random.default_rng(0)
    before = rng.normal(100, 30, 40)
    run, baseline = items(before + 2 + rng.normal(0, 0.5, 40)), items(before)
    comparison, text = compare_items(run.iloc[::-1], baseline, scores(), scores(), "ours", "frozen")
    test = comparison["tests"]["cider"]
    assert test["difference"]["mean"] == pytest.approx(2, abs=0.3)
    assert 1.5 < test["difference"]["low"] < test["difference"]["high"] < 2.5
    assert test["p_value"] == pytest.approx(1 / 10_001)
    assert "| cider | 40 | " in text and "**One training seed each**" in text
    assert comparison["training_seeds"] == {"run": 3, "baseline": 3, "count": 1}


def test_a_measure_of_other_real_images_is_left_out():
    values = np.arange(40.0)
    run = pd.concat([items(values), items(values[:30], "digit_acc1", IMAGES[:30])])
    baseline = pd.concat([items(values), items(values[:30], "digit_acc1", IMAGES[10:])])
    comparison, _ = compare_items(run, baseline, scores(), scores(), "ours", "frozen")
    assert list(comparison["tests"]) == ["cider"]
    with pytest.raises(ValueError, match="no measure on the same images"):
        compare_items(items(values), items(values, "rouge_l"), scores(), scores(), "ours", "frozen")


@pytest.mark.reliability(26)
@pytest.mark.parametrize("key", SAME_COLUMN)
def test_numbers_of_another_split_backbone_or_protocol_share_no_column(key):
    """The summary leaves such a run out and says why; a comparison refuses it."""
    other = scores(**{key: "another"})
    assert differing_protocol(scores()["protocol"], other["protocol"]) == [key]
    with pytest.raises(ValueError, match=f"'ours' and 'frozen' cannot be compared: they differ in {key}"):
        compare_items(items(range(40)), items(range(40)), scores(), other, "ours", "frozen")
    nothing = {"scores": {}, "intervals": {}}
    gap = {"scores": {"paired_cosine_before": 0.5, "probe_auc_before": 0.5, "centroid_distance_before": 0.1}}
    full = dict.fromkeys(("captioning", "retrieval", "classification"), nothing) | {"gap": gap | {"intervals": {}}}
    summary = summarize("ours", full | scores(), {"frozen": full | scores(), "stranger": full | other})
    assert "| frozen |" in summary and "| stranger |" not in summary
    assert f"Not comparable, left out: stranger ({key})." in summary
    assert "one training seed" in summary


class Photographs:
    """An image whose grey is its number."""

    def read(self, key):
        stream = BytesIO()
        Image.new("RGB", (16, 16), (int(key),) * 3).save(stream, "PNG")
        return stream.getvalue()


def test_captions_are_shown_from_the_largest_loss_to_the_largest_gain():
    gains = np.arange(40.0) - 10
    said = [{"image_id": key, "text": f"ours {key}"} for key in IMAGES]
    before = [{"image_id": key, "text": f"frozen {key}" if key != "0" else ""} for key in IMAGES[::-1]]
    figure = draw_captions_figure(
        SimpleNamespace(images=Photographs()), said, before, items(gains + 50), items(np.full(40, 50.0)), "ours", "base"
    )
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[0] == "CIDEr -10" and titles[-1] == "CIDEr +29" and len(titles) == 6
    assert figure.axes[0].get_xlabel() == "base:\n(nothing)\n\nours:\nours 0"
    assert figure.axes[-1].get_xlabel() == "base:\nfrozen 39\n\nours:\nours 39"


def number(values, images=IMAGES, **protocol):
    return Number(float(np.mean(values)), items=pd.Series(values, index=images), protocol=protocol)


def test_a_difference_is_paired_by_image_in_whatever_order_they_stand():
    before = np.random.default_rng(0).normal(100, 30, 40)
    ours, baseline = number((before + 2)[::-1], IMAGES[::-1]), number(before)
    between, reason = difference([ours], [baseline])
    assert [between.mean, between.low, between.high] == pytest.approx([2, 2, 2]) and reason == ""
    crossed, _ = difference([ours, ours], [baseline, baseline])
    assert [crossed.low, crossed.high] == pytest.approx([2, 2])


def test_one_number_on_each_side_has_no_interval_and_two_seeds_have():
    between, _ = difference([Number(3.0)], [Number(1.0)])
    assert between.mean == 2 and np.isnan([between.low, between.high]).all()
    between, _ = difference([Number(3.0), Number(5.0)], [Number(1.0), Number(1.0)])
    assert (between.mean, between.low, between.high) == (3, 2, 4)
    assert np.isnan(difference([], [])[0].mean)


@pytest.mark.reliability(26)
def test_what_was_measured_differently_or_on_other_images_has_no_difference():
    between, reason = difference([number(range(40), split="val")], [number(range(40), split="test")])
    assert np.isnan(between.mean) and reason == "not compared: the rows were measured differently in split"
    between, reason = difference([number(range(40))], [number(range(40), [f"other {name}" for name in IMAGES])])
    assert np.isnan(between.mean) and reason == "not compared: the rows were measured on different images"


def test_a_mean_over_seeds_keeps_the_runs_own_interval_only_where_there_is_one_run():
    own = Number(2.0, interval=(1.5, 2.5))
    assert mean_over_seeds([own]).low == 1.5
    both = mean_over_seeds([own, Number(4.0, interval=(3.5, 4.5))])
    assert (both.mean, both.low, both.high) == (3, 2, 4)
