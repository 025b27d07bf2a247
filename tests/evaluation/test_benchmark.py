"""Retrieval on encoded pairs: values that can be checked by eye, and why some are not there."""

import pandas as pd
import pytest
import torch

from gmail_kedro.evaluation.benchmark import RECALLS, Benchmark, score_retrieval
from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.params.evaluation import EvaluationParams

PARAMS = EvaluationParams(
    split="test", image_count=None, beam_size=1, caption_tokenizer="simple", meteor=False, word_vectors=None,
    scene_tuples=False, retrieval_protocol=None, class_sets=None, linear_probe=False, bootstrap_count=20, seed=0,
)  # fmt: skip
RIGHT = torch.eye(3)[[0, 0, 1, 2]]
ONE_WRONG = torch.eye(3)[[0, 1, 1, 2]] + 0.1 * torch.eye(3)[[0, 0, 1, 2]]  # the second caption looks for b, not a


def benchmark(text, tuned=None):
    return Benchmark(
        image_ids=["a", "b", "c"], image=torch.eye(3), captions=["1", "2", "3", "4"], text=text, tuned_text=tuned,
        text_image_index=torch.tensor([0, 0, 1, 2]), truncated_count=2, origin=FeatureOrigin("mini_clip", ("real",)),
    )  # fmt: skip


def test_recalls_before_and_after_tuning_and_image_by_image():
    result, items = score_retrieval(benchmark(ONE_WRONG, RIGHT), PARAMS)
    assert result["scores"]["i2t_r1"] == 100 and result["scores"]["t2i_r1"] == 75
    assert result["scores"]["t2i_r5"] == result["scores"]["tuned_t2i_r1"] == 100
    assert set(result["scores"]) == set(result["intervals"]) == {*RECALLS, *(f"tuned_{name}" for name in RECALLS)}
    assert result["unavailable"] == {} and result["truncated_caption_count"] == 2
    by_image = items[items["measure"] == "t2i_r1"].set_index("image_id")["value"]
    assert by_image.to_dict() == {"a": 50.0, "b": 100.0, "c": 100.0}
    assert result["intervals"]["t2i_r1"]["mean"] == pytest.approx(75)


def test_what_was_not_measured_says_why():
    untuned, _ = score_retrieval(benchmark(RIGHT), PARAMS)
    assert set(untuned["scores"]) == set(RECALLS)
    assert untuned["unavailable"] == {f"tuned_{name}": "no text tower was tuned downstream" for name in RECALLS}
    blind, items = score_retrieval(benchmark(None), PARAMS)
    assert blind["scores"] == blind["intervals"] == {}
    assert blind["unavailable"] == {"all": "the encoder 'mini_clip' reads no texts"}
    assert isinstance(items, pd.DataFrame) and items.empty
