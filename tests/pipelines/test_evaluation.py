"""What evaluation takes from a corpus, and what stops it."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from gmail_kedro.evaluation import benchmark as benchmarks
from gmail_kedro.evaluation.benchmark import Benchmark
from gmail_kedro.evaluation.splits import evaluation_rows
from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.mini.world.grammar import GRAMMAR
from gmail_kedro.params.base import ParameterError
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.retrieval_protocols import PROTOCOLS, check_protocol
from gmail_kedro.pipelines.evaluation.nodes import score_captions

PARAMS = {
    "split": "test", "image_count": None, "beam_size": 1, "caption_tokenizer": "simple", "meteor": False,
    "word_vectors": None, "scene_tuples": True, "retrieval_protocol": None, "class_sets": None, "linear_probe": False,
    "bootstrap_count": 20, "seed": 0,
}  # fmt: skip
CAPTIONS = ["a red 7.", "the number 7 in red ink.", "a small 7 on yellow paper.", "a 7.", "a red digit.", "a sixth."]


def params(**changes):
    return EvaluationParams(**{**PARAMS, **changes})


def corpus_of(image_count, captions_each, split="test"):
    rows = [(f"{i}", CAPTIONS[c], split) for i in range(image_count) for c in range(captions_each)]
    table = pd.DataFrame(rows, columns=["image_id", "caption", "split"])
    return SimpleNamespace(name="tiny", captions=table, labels={}, images=None, grammar=GRAMMAR)


@pytest.mark.parametrize(
    ("name", "images", "captions"),
    [
        ("coco_val2017_5k", 5_000, 25_000),
        ("coco_karpathy_5k", 5_000, 25_000),
        ("flickr30k_whole", 31_783, 158_915),
        ("flickr30k_1k", 1_000, 5_000),
        ("sharegpt4v_1k", 1_000, 1_000),
    ],
)
def test_protocols_are_what_papers_rank(name, images, captions):
    check_protocol(name, image_count=images, caption_count=captions)
    for count in ((images - 1, captions), (images, captions + 1), (1, 5)):
        with pytest.raises(ValueError, match=f"{name}' ranks {images} images with {captions} captions"):
            check_protocol(name, image_count=count[0], caption_count=count[1])
    assert len(PROTOCOLS) == 5


def test_a_protocol_takes_the_first_captions_of_each_real_image():
    rows = evaluation_rows(corpus_of(1_000, 6), params(retrieval_protocol="flickr30k_1k"))
    assert len(rows) == 5_000 and "a sixth." not in set(rows["caption"])
    assert len(evaluation_rows(corpus_of(1_000, 6), params())) == 6_000


@pytest.mark.parametrize(("images", "captions"), [(999, 5), (1_001, 5), (1_000, 4)])
@pytest.mark.reliability(25)
def test_a_missing_real_image_or_caption_stops_a_protocol(images, captions):
    """Fault test 25: what was not there when the corpus was read does not silently make the test set smaller."""
    with pytest.raises(ValueError, match=f"Got {images} with {images * captions}. Complete the corpus"):
        evaluation_rows(corpus_of(images, captions), params(retrieval_protocol="flickr30k_1k"))


@pytest.mark.reliability(25)
def test_a_real_image_that_cannot_be_read_stops_evaluation(monkeypatch, tmp_path):
    """Fault test 25: an image missing on disk is an error that names it, never a smaller benchmark."""
    from gmail_kedro.models.encoders.known_encoders import build_encoder
    from gmail_kedro.params.run import RunParams

    class OneMissing:
        def read(self, key):
            if key == "3":
                raise FileNotFoundError("There is no image '3'.")
            return (Path(__file__).parents[2] / "docs" / "pairs.png").read_bytes()

    teacher = build_encoder("mini_clip", None, device=torch.device("cpu"))
    monkeypatch.setattr(benchmarks, "real_route", lambda adapter, run, device: teacher)
    corpus, run = (
        corpus_of(6, 2),
        RunParams(
            seed=0,
            device="cpu",
            precision="float32",
            encoder="mini_clip",
            encoder_path=None,
            image_batch_size=4,
            engine="local",
        ),
    )
    corpus.images = OneMissing()
    with pytest.raises(FileNotFoundError, match="no image '3'"):
        benchmarks.encode_benchmark(
            corpus, None, SimpleNamespace(kind="none"), tmp_path, tmp_path / "store", params(), run
        )
    assert not list(tmp_path.glob("store/*.safetensors"))


def test_a_split_without_real_images_is_refused():
    with pytest.raises(ValueError, match=r"split 'test' .* has 0 images, .* Its splits: \{'train': 3\}"):
        evaluation_rows(corpus_of(3, 2, split="train"), params())


def test_a_protocol_and_a_part_of_the_corpus_contradict_each_other():
    with pytest.raises(ParameterError, match="evaluation.image_count must be null with a retrieval_protocol"):
        params(image_count=200, retrieval_protocol="flickr30k_1k")
    with pytest.raises(ParameterError, match="evaluation.retrieval_protocol must be one of .*'flickr30k_1k'"):
        params(retrieval_protocol="flickr_2k")


@pytest.fixture
def benchmark():
    return Benchmark(
        image_ids=["a", "b"], image=torch.eye(2), captions=["a red 7.", "a 7 on yellow paper.", "a blue 4."],
        text=None, tuned_text=None, text_image_index=torch.tensor([0, 0, 1]), truncated_count=0,
        origin=FeatureOrigin("mini_clip", ("real",)),
    )  # fmt: skip


SAID = [{"image_id": "a", "text": "a red 7."}, {"image_id": "b", "text": "a red 4."}]


def test_facts_need_a_corpus_whose_captions_come_from_a_grammar(benchmark, tmp_path):
    corpus = corpus_of(20, 5)
    corpus.grammar = None
    with pytest.raises(ValueError, match="evaluation.scene_tuples needs a corpus.* 'tiny' has none. Set it to false"):
        score_captions(SAID, benchmark, corpus, tmp_path, params())


def test_captions_are_scored_by_facts_and_words_too(benchmark, tmp_path):
    corpus = corpus_of(20, 5, split="train")
    scores, items = score_captions(SAID, benchmark, corpus, tmp_path, params(word_vectors="own"))
    assert scores["scores"]["scene_tuples"] == pytest.approx((100 * 2 * 2 / (2 + 3) + 100 * 2 * 1 / (2 + 2)) / 2)
    assert 0 < scores["scores"]["wmd"] <= 100 and scores["word_vectors"] == "own"
    words = {"cider", "rouge_l", "wmd"} | {f"bleu_{order}" for order in range(1, 5)}
    assert set(items["measure"]) == words | {"scene_tuples"}
    assert scores["intervals"].keys() == set(items["measure"])
    assert list(tmp_path.glob("word_vectors-*.safetensors"))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "needs word vectors. Set evaluation.word_vectors"),
        ({"word_vectors": "nowhere.bin"}, "no word vectors at 'nowhere.bin'"),
        ({"word_vectors": "own"}, "no training captions"),
    ],
)
def test_a_measure_that_cannot_run_is_absent_and_says_why(benchmark, tmp_path, changes, reason):
    scores, items = score_captions(SAID, benchmark, corpus_of(3, 2), tmp_path, params(scene_tuples=False, **changes))
    assert "wmd" not in scores["scores"] and reason in scores["unavailable"]["wmd"]
    assert "scene_tuples" not in scores["scores"] and "wmd" not in set(items["measure"])
