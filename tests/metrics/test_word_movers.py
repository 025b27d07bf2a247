"""Word mover's similarity against the best of all assignments, and word vectors in every form on disk."""

import gzip
import itertools
import math

import numpy as np
import pytest
from gensim.models import KeyedVectors

from gmail_kedro.metrics import word_movers
from gmail_kedro.metrics.word_movers import load_word_vectors, train_word_vectors, word_mover_scores

WORDS = ["dog", "cat", "boat", "sea", "hill", "café", "run"]


@pytest.fixture(scope="module")
def vectors():
    made = KeyedVectors(8)
    made.add_vectors(WORDS, np.random.default_rng(0).normal(size=(len(WORDS), 8)).astype(np.float32))
    return made


def naive_distance(first, second, vectors):
    """The cheapest one-to-one assignment; with equally many different words it is the cheapest transport."""
    unit = {word: vectors[word] / np.linalg.norm(vectors[word]) for word in (*first, *second)}
    return min(
        np.mean([np.linalg.norm(unit[a] - unit[b]) for a, b in zip(first, order, strict=True)])
        for order in itertools.permutations(second)
    )


@pytest.mark.parametrize(
    ("first", "second"), [("dog boat hill", "cat sea run"), ("dog", "sea"), ("dog sea", "sea café")]
)
def test_equals_the_best_assignment(vectors, first, second):
    score = word_mover_scores({"a": first}, {"a": [second]}, vectors)[0]
    assert score == pytest.approx(100 * math.exp(-naive_distance(first.split(), second.split(), vectors)), rel=1e-5)


def test_the_nearest_reference_counts_and_function_words_do_not(vectors):
    one = word_mover_scores({"a": "the dog is on a boat"}, {"a": ["cat sea", "dog n't boat", "hill run"]}, vectors)
    assert one.tolist() == [100.0]
    alone = word_mover_scores({"a": "dog boat"}, {"a": ["cat sea"]}, vectors)
    both = word_mover_scores({"a": "dog boat"}, {"a": ["cat sea", "hill run"]}, vectors)
    assert both[0] >= alone[0]


@pytest.mark.parametrize("said", ["", "zebra", "the of and"])
def test_a_caption_without_known_words_scores_zero(vectors, said):
    assert word_mover_scores({"a": said, "b": "dog"}, {"a": ["dog"], "b": ["dog"]}, vectors).tolist() == [0.0, 100.0]


def test_references_without_known_words_score_zero(vectors):
    assert word_mover_scores({"a": "dog"}, {"a": ["zebra"]}, vectors).tolist() == [0.0]


def test_a_larger_sigma_is_milder(vectors):
    mild, strict = (word_mover_scores({"a": "dog"}, {"a": ["sea"]}, vectors, sigma=sigma)[0] for sigma in (2.0, 1.0))
    assert mild == pytest.approx(10 * math.sqrt(strict))


@pytest.mark.parametrize(
    ("predictions", "references", "sigma", "message"),
    [
        ({}, {}, 1.0, "at least one image"),
        ({}, {"a": ["dog"]}, 1.0, "Image 'a' has not"),
        ({"a": "dog"}, {"a": []}, 1.0, "Image 'a' has not"),
        ({"a": "dog"}, {"a": ["dog"]}, 0.0, "must be greater than 0. Got 0.0"),
        ({"a": "dog"}, {"a": ["dog"]}, math.nan, "must be greater than 0. Got nan"),
    ],
)
def test_wrong_input_is_refused(vectors, predictions, references, sigma, message):
    with pytest.raises(ValueError, match=message):
        word_mover_scores(predictions, references, vectors, sigma=sigma)


def test_vectors_are_read_in_every_form(vectors, tmp_path):
    lines = [f"{word} {' '.join(str(float(value)) for value in vectors[word])}" for word in WORDS]
    (tmp_path / "glove.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "word2vec.txt").write_text("\n".join([f"{len(WORDS)} 8", *lines]) + "\n")
    with gzip.open(tmp_path / "glove.txt.gz", "wt") as stream:
        stream.write("\n".join(lines) + "\n")
    vectors.save_word2vec_format(str(tmp_path / "word2vec.bin"), binary=True)
    for name in ("glove.txt", "word2vec.txt", "glove.txt.gz", "word2vec.bin"):
        read = load_word_vectors(tmp_path / name)
        assert read.index_to_key == WORDS
        assert np.allclose(read["café"], vectors["café"], atol=1e-6)


def test_missing_and_broken_vectors_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="no word vectors at .*evaluation.word_vectors.*`own`"):
        load_word_vectors(tmp_path / "none.bin")
    (tmp_path / "broken.txt").write_text("dog 0.1 0.2\ncat 0.1 x\n")
    (tmp_path / "broken.bin").write_bytes(b"\x00\x01\x02")
    for name in ("broken.txt", "broken.bin"):
        with pytest.raises(ValueError, match="must be in word2vec's binary form"):
            load_word_vectors(tmp_path / name)


def test_own_vectors_are_trained_once_and_hang_on_captions_and_seed(tmp_path, monkeypatch):
    captions = ["a blue dog runs", "a red dog runs", "a blue cat sits", "the red cat sits"] * 10
    first = train_word_vectors(captions, tmp_path / "kept", seed=0)
    assert len(list((tmp_path / "kept").iterdir())) == 1
    with monkeypatch.context() as patch:
        patch.setattr(word_movers, "_train_own", None)  # read, not trained again
        kept = train_word_vectors(captions, tmp_path / "kept", seed=0)
    assert kept.index_to_key == first.index_to_key and np.array_equal(kept.vectors, first.vectors)
    again = train_word_vectors(captions, tmp_path / "anew", seed=0)
    assert np.array_equal(first["dog"], again["dog"])
    assert not np.allclose(first["dog"], train_word_vectors(captions, tmp_path / "anew", seed=1)["dog"])
    with pytest.raises(ValueError, match="captions with words"):
        train_word_vectors(["", " "], tmp_path, seed=0)


@pytest.mark.reliability(16)
def test_own_vectors_whose_file_is_damaged_are_trained_anew_and_that_is_said(tmp_path, caplog):
    captions = ["a blue dog runs", "a red cat sits"] * 5
    first = train_word_vectors(captions, tmp_path, seed=0)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert np.array_equal(train_word_vectors(captions, tmp_path, seed=0).vectors, first.vectors)
    assert f"{path} is damaged" in caplog.text and path.read_bytes() == whole
