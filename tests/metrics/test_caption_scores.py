"""Caption metrics against naive re-computations, published scores and machines without Java."""

import json
import math
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from gmail_kedro.metrics import caption_scores as captioning
from gmail_kedro.metrics.caption_scores import MetricUnavailableError, caption_scores, tokenize_simple

PUBLISHED = Path(os.environ.get("PUBLISHED_CAPTION_SCORES", "not given"))
KEYS = {"Bleu_1": "bleu_1", "Bleu_2": "bleu_2", "Bleu_3": "bleu_3", "Bleu_4": "bleu_4", "ROUGE_L": "rouge_l"}
KEYS |= {"CIDEr": "cider"}
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR and the ptb tokenizer need Java")

PREDICTIONS = {
    "page": "a blue number on yellow paper",
    "tree": "an old tree stands on a green hill by the sea",
    "boat": "boat",
    "dog": "the the the dog runs",
}
REFERENCES = {
    "page": ["the number seven in blue on yellow paper", "a blue seven on a yellow sheet of paper"],
    "tree": ["an old tree on a hill by the sea", "a lonely tree stands on a green hill", "a tree by the sea"],
    "boat": ["a small boat on the sea", "a red boat"],
    "dog": ["the dog runs on the hill", "a dog is on a green hill"],
}


def ngrams(text, n):
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def naive_bleu(order):
    """Corpus BLEU: clipped precisions, geometric mean, brevity penalty with the closest reference length."""
    logs, length, reference_length = [], 0, 0
    for n in range(1, order + 1):
        matched = total = 0
        for image, prediction in PREDICTIONS.items():
            counts = ngrams(prediction, n)
            clipped = {gram: max(ngrams(text, n)[gram] for text in REFERENCES[image]) for gram in counts}
            matched += sum(min(count, clipped[gram]) for gram, count in counts.items())
            total += sum(counts.values())
        logs.append(math.log(matched / total))
    for image, prediction in PREDICTIONS.items():
        own = len(prediction.split())
        lengths = [len(text.split()) for text in REFERENCES[image]]
        length += own
        reference_length += min(lengths, key=lambda other, own=own: (abs(other - own), other))
    return min(1, math.exp(1 - reference_length / length)) * math.exp(sum(logs) / order)


def naive_cider(image):
    """CIDEr-D of one image: clipped tf-idf cosines, times a Gaussian of the difference in bigram counts."""

    def weight(gram):
        seen = sum(any(ngrams(text, len(gram))[gram] for text in texts) for texts in REFERENCES.values())
        return math.log(len(REFERENCES)) - math.log(max(1, seen))

    def norm(counts):
        return math.sqrt(sum((count * weight(gram)) ** 2 for gram, count in counts.items()))

    total = 0.0
    for text in REFERENCES[image]:
        difference = sum(ngrams(PREDICTIONS[image], 2).values()) - sum(ngrams(text, 2).values())
        for n in range(1, 5):
            ours, theirs = ngrams(PREDICTIONS[image], n), ngrams(text, n)
            product = sum(min(ours[gram], theirs[gram]) * theirs[gram] * weight(gram) ** 2 for gram in ours)
            scale = norm(ours) * norm(theirs)
            total += (product / scale if scale else 0.0) * math.exp(-(difference**2) / 72)
    return 10 * total / 4 / len(REFERENCES[image])


def naive_rouge(image):
    def common(a, b):
        if not a or not b:
            return 0
        return common(a[1:], b[1:]) + 1 if a[0] == b[0] else max(common(a[1:], b), common(a, b[1:]))

    words, texts = PREDICTIONS[image].split(), [text.split() for text in REFERENCES[image]]
    precision = max(common(words, text) / len(words) for text in texts)
    recall = max(common(words, text) / len(text) for text in texts)
    return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


def simple_scores(predictions=PREDICTIONS, references=REFERENCES):
    return caption_scores(predictions, references, tokenizer="simple", with_meteor=False)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_bleu_equals_a_naive_one(order):
    assert simple_scores().scores[f"bleu_{order}"] == pytest.approx(100 * naive_bleu(order), abs=1e-4)


def test_cider_and_rouge_equal_naive_ones():
    result = simple_scores()
    np.testing.assert_allclose(result.per_image["cider"], [100 * naive_cider(image) for image in PREDICTIONS])
    small = ["page", "boat", "dog"]  # the naive common subsequence is exponential
    rows = [result.image_ids.index(image) for image in small]
    np.testing.assert_allclose(result.per_image["rouge_l"][rows], [100 * naive_rouge(image) for image in small])


def test_perfect_captions_score_100():
    scores = simple_scores({image: texts[0] for image, texts in REFERENCES.items() if image != "boat"} | {
        "boat": "a small boat on the sea"
    }).scores  # fmt: skip
    assert [scores[f"bleu_{n}"] for n in range(1, 5)] == pytest.approx([100] * 4, abs=1e-3)
    assert scores["rouge_l"] == pytest.approx(100)


def test_per_image_means_are_the_scores_in_the_order_of_the_references():
    shuffled = {image: PREDICTIONS[image] for image in reversed(PREDICTIONS)}
    result = simple_scores(shuffled)
    assert result.image_ids == tuple(REFERENCES)
    assert result.tokenizer == "simple"
    assert set(result.per_image) == {"cider", "rouge_l", "bleu_1", "bleu_2", "bleu_3", "bleu_4"}
    for metric in result.per_image:
        assert result.per_image[metric].shape == (4,)
        assert result.per_image[metric].mean() == pytest.approx(result.scores[metric])
    assert result.scores == simple_scores().scores


def test_nothing_is_printed(capfd):
    simple_scores()
    assert capfd.readouterr() == ("", "")


@pytest.mark.reliability(24)
def test_an_empty_prediction_scores_zero_for_its_image():
    result = simple_scores(PREDICTIONS | {"boat": ""})
    assert (result.per_image["cider"][2], result.per_image["rouge_l"][2]) == (0, 0)
    wordless = simple_scores(PREDICTIONS | {"boat": " ... "})
    assert wordless.scores == result.scores
    assert 0 < result.scores["bleu_1"] < simple_scores().scores["bleu_1"]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Two dogs' toys - isn't it?", "two dogs toys is n't it"),
        ("The dog’s T-shirt (red), at 3:30!", "the dog 's t-shirt red at 3:30"),
        ("He said: \"I'm off; we'll cannot...\"", "he said i 'm off we 'll can not"),
        ("five o'clock\n café  & 1,000 men", "five o'clock café & 1,000 men"),
        (" .,; ", ""),
    ],
)
def test_simple_tokens(text, tokens):
    assert " ".join(tokenize_simple(text)) == tokens


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ({"page": "a"}, {"page": ["a"]}, "at least 2 images"),  # CIDEr of one image would be 0 (fault test 24)
        ({"page": "a"}, REFERENCES, r"3 have no prediction: \['tree', 'boat', 'dog'\]"),
        (PREDICTIONS | {"cat": "a"}, REFERENCES, r"1 have a prediction but no references: \['cat'\]"),
        (PREDICTIONS, REFERENCES | {"dog": []}, "Image 'dog' has none"),
        (PREDICTIONS, REFERENCES | {"dog": ["a dog", " . "]}, "reference of image 'dog' has no words: ' . '"),
    ],
)
@pytest.mark.reliability(24)
def test_wrong_captions_are_refused(predictions, references, message):
    """Fault test 24: one image, a missing prediction, a missing or wordless reference."""
    with pytest.raises(ValueError, match=message):
        simple_scores(predictions, references)


def test_references_must_be_lists():
    with pytest.raises(TypeError, match="must be a list of captions. Got the text 'a dog'"):
        simple_scores(PREDICTIONS, REFERENCES | {"dog": "a dog"})


def test_an_unknown_tokenizer_is_refused():
    with pytest.raises(ValueError, match=r"one of \['simple', 'ptb'\]. Got 'spacy'"):
        caption_scores(PREDICTIONS, REFERENCES, tokenizer="spacy")


def test_without_java_meteor_and_spice_are_missing_and_not_zero(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    result = caption_scores(PREDICTIONS, REFERENCES, tokenizer="simple")
    assert {"meteor", "spice"} == set(result.unavailable)
    assert not {"meteor", "spice"} & set(result.scores)
    assert "METEOR needs Java" in result.unavailable["meteor"]
    with pytest.raises(MetricUnavailableError, match="ptb tokenizer needs Java.*choose the tokenizer `simple`"):
        caption_scores(PREDICTIONS, REFERENCES, tokenizer="ptb")


def test_meteor_that_was_not_asked_for_says_so():
    result = simple_scores()
    assert "meteor" not in result.scores
    assert "not asked for" in result.unavailable["meteor"]


@needs_java
def test_a_meteor_that_dies_is_unavailable_and_leaves_no_process(monkeypatch):
    from pycocoevalcap.meteor import meteor

    started = []

    class DyingMeteor(meteor.Meteor):
        def __init__(self):
            super().__init__()
            self.meteor_p.kill()
            self.meteor_p.wait()
            started.append(self.meteor_p)

    monkeypatch.setattr(meteor, "Meteor", DyingMeteor)
    result = caption_scores(PREDICTIONS, REFERENCES, tokenizer="simple")
    assert "meteor" not in result.scores
    assert "METEOR stopped" in result.unavailable["meteor"]
    assert len(started) == 1
    assert started[0].poll() is not None


def fake_spice(monkeypatch, tmp_path, score):
    from pycocoevalcap.spice import spice

    class FakeSpice:
        def compute_score(self, references, predictions):
            print("noise")
            return score, [{"All": {"f": float(place)}} for place, _ in enumerate(sorted(references))]

    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/java")
    monkeypatch.setattr(spice, "Spice", FakeSpice)
    monkeypatch.setattr(spice, "__file__", str(tmp_path / "spice.py"))
    (tmp_path / "lib").mkdir()
    for jar in captioning.SPICE_JARS:
        (tmp_path / "lib" / jar).touch()


def test_spice_runs_where_its_files_are(monkeypatch, tmp_path, capfd):
    fake_spice(monkeypatch, tmp_path, 0.2)
    result = simple_scores()
    assert result.scores["spice"] == pytest.approx(20)
    assert result.per_image["spice"].tolist() == [200, 300, 0, 100]  # pycocoevalcap answers in alphabetical order
    assert "spice" not in result.unavailable
    assert capfd.readouterr().out == ""


def test_spice_that_returns_no_number_is_unavailable(monkeypatch, tmp_path):
    fake_spice(monkeypatch, tmp_path, float("nan"))
    assert "SPICE returned nan" in simple_scores().unavailable["spice"]


def test_spice_without_corenlp_names_the_files(monkeypatch, tmp_path):
    fake_spice(monkeypatch, tmp_path, 0.2)
    (tmp_path / "lib" / captioning.SPICE_JARS[1]).unlink()
    reason = simple_scores().unavailable["spice"]
    assert f"Put {captioning.SPICE_JARS[1]} into {tmp_path / 'lib'}" in reason


@needs_java
def test_ptb_keeps_texts_in_place_around_empty_and_broken_lines():
    texts = ["A dog isn't here.", "", "two\nlines\u2028and \r more", " ", "caf\u00e9", "..."]
    assert captioning._tokenize_all_ptb(texts) == ["a dog is n't here", "", "two lines and more", "", "café", ""]


@needs_java
def test_simple_and_ptb_agree_on_ordinary_captions():
    texts = ["Two dogs, a man's hat and T-shirts: isn't it well-known?", "It's 3:30; they don't cannot."]
    assert captioning._tokenize_all_ptb(texts) == captioning._tokenize_all_simple(texts)


def published_example(name):
    """Returns predictions, references and published scores (in [0, 1]) of one example on disk."""
    if not PUBLISHED.is_dir():
        pytest.skip(f"PUBLISHED_CAPTION_SCORES names no folder of published caption examples: {PUBLISHED}.")
    published = json.loads((PUBLISHED / "published_scores.json").read_text())
    if name == "nlg-eval":
        folder = PUBLISHED / "nlgeval_example"
        lines = {part: (folder / f"{part}.txt").read_text().splitlines() for part in ("hyp", "ref1", "ref2")}
        ids = [str(row) for row in range(len(lines["hyp"]))]
        references = {id_: [lines["ref1"][int(id_)], lines["ref2"][int(id_)]] for id_ in ids}
        return dict(zip(ids, lines["hyp"], strict=True)), references, published["nlg-eval example"]
    folder = PUBLISHED / "clipscore_example"
    predictions = json.loads((folder / f"{name}_captions.json").read_text())
    return predictions, json.loads((folder / "refs.json").read_text()), published[f"clipscore example {name}"]


@pytest.mark.parametrize("tokenizer", ["simple", pytest.param("ptb", marks=needs_java)])
@pytest.mark.parametrize(("name", "tolerance"), [("good", 5.1e-5), ("bad", 5.1e-5), ("nlg-eval", 5.1e-7)])
def test_published_scores(name, tolerance, tokenizer):
    predictions, references, published = published_example(name)
    scores = caption_scores(predictions, references, tokenizer=tokenizer, with_meteor=False).scores
    assert {key: scores[ours] / 100 for key, ours in KEYS.items()} == pytest.approx(
        {key: published[key] for key in KEYS}, abs=tolerance
    )


@needs_java
@pytest.mark.parametrize(("name", "tolerance"), [("good", 5.1e-5), ("bad", 5.1e-5), ("nlg-eval", 5.1e-7)])
def test_published_meteor(name, tolerance):
    predictions, references, published = published_example(name)
    result = caption_scores(predictions, references, tokenizer="ptb")
    assert result.scores["meteor"] / 100 == pytest.approx(published["METEOR"], abs=tolerance)


GOLDEN = {  # pycocoevalcap 1.2 on the captions above, PTB tokens, Java 17
    "bleu_1": 83.955227, "bleu_2": 76.272704, "bleu_3": 65.978824, "bleu_4": 52.774097,
    "rouge_l": 63.882274, "cider": 250.181893, "meteor": 37.210863,
}  # fmt: skip


@pytest.mark.reliability(24)
def test_golden_values_without_java():
    scores = simple_scores().scores
    assert scores == pytest.approx({name: GOLDEN[name] for name in scores}, abs=5.1e-7)


@needs_java
def test_golden_values_with_meteor():
    scores = caption_scores(PREDICTIONS, REFERENCES, tokenizer="ptb").scores
    assert {name: scores[name] for name in GOLDEN} == pytest.approx(GOLDEN, abs=5.1e-7)


HOSTILE_WORDS = [
    "a",
    "the",
    "dog",
    "naïve",
    "café",
    "犬",
    "🐕",
    "t-shirt",
    "3:30",
    "it's",
    "dog's",
    "…",
    "“",
    "|||",
    "/",
]


def hostile_captions(seed):
    """Random captions with repetitions, duplicates, Unicode, empty predictions and one to six references."""
    rng = random.Random(seed)

    def caption(fewest):
        return " ".join(rng.choices(HOSTILE_WORDS, k=rng.randint(fewest, 9)))

    references = {str(i): [f"dog {caption(1)}" for _ in range(rng.randint(1, 6))] for i in range(25)}
    predictions = {image: caption(0) for image in references} | {"3": "", "4": "…", "5": references["5"][0]}
    references["6"] *= 2
    return predictions, references


@pytest.mark.parametrize("tokenizer", ["simple", pytest.param("ptb", marks=needs_java)])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.reliability(24)
def test_equals_pycocoevalcap_on_hostile_captions(seed, tokenizer):
    """Fault test 24: duplicates, empty predictions, Unicode; our scores are the reference tool's on the same tokens."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    predictions, references = hostile_captions(seed)
    result = caption_scores(predictions, references, tokenizer=tokenizer, with_meteor=False)
    said = {image: [text] for image, text in result.tokens.items()}
    bleu, _ = Bleu(4).compute_score(result.reference_tokens, said, verbose=0)
    cider, rouge = (scorer.compute_score(result.reference_tokens, said)[0] for scorer in (Cider(), Rouge()))
    expected = {f"bleu_{n}": value for n, value in enumerate(bleu, start=1)} | {"cider": cider, "rouge_l": rouge}
    assert {name: result.scores[name] / 100 for name in expected} == pytest.approx(expected, abs=1e-12)
    assert all(0 <= result.scores[name] <= 1000 for name in expected)
    assert result.per_image["cider"][3] == result.per_image["rouge_l"][4] == 0


@needs_java
@pytest.mark.slow
def test_the_whole_of_the_reference_pipeline_gives_the_same_numbers():
    """Fault test 24: tokenizer, BLEU, METEOR, ROUGE-L and CIDEr of pycocoevalcap itself, from raw texts on."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    predictions, references = dict(PREDICTIONS), dict(REFERENCES)
    predictions["dog"], references["boat"] = "The dog's café isn't 3:30, (naïve) t-shirt!", ["A boat.", "A boat."]
    tokenize = PTBTokenizer().tokenize
    truth = tokenize({image: [{"caption": text} for text in texts] for image, texts in references.items()})
    said = tokenize({image: [{"caption": text}] for image, text in predictions.items()})
    expected = {
        "meteor": Meteor().compute_score(truth, said)[0],
        "cider": Cider().compute_score(truth, said)[0],
        "rouge_l": Rouge().compute_score(truth, said)[0],
    }
    bleu, _ = Bleu(4).compute_score(truth, said, verbose=0)
    expected |= {f"bleu_{n}": value for n, value in enumerate(bleu, start=1)}
    result = caption_scores(predictions, references, tokenizer="ptb")
    assert {name: result.scores[name] / 100 for name in expected} == pytest.approx(expected, abs=1e-9)
