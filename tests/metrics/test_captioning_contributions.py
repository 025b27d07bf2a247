"""BLEU and METEOR of a whole set: what an image contributes, and that intervals of contributions are theirs."""

import os
import shutil

import numpy as np
import pytest

from gmail_kedro.metrics.caption_scores import _bleu_scores, _meteor_score
from gmail_kedro.metrics.statistics import bootstrap_interval, paired_difference

needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="METEOR needs Java")
WORDS = "a the red blue green digit number seven three five on paper large small thin bold ink with".split()  # noqa: SIM905


def captions(count, spoil, seed=0):
    """Returns references and predictions; a prediction is a reference with words exchanged and cut off."""
    rng = np.random.default_rng(seed)
    references = {f"{image:03}": [sentence(rng) for _ in range(3)] for image in range(count)}
    predictions = {}
    for image, texts in references.items():
        words = texts[0].split()
        spoilt = [str(rng.choice(WORDS)) if rng.random() < spoil else word for word in words]
        predictions[image] = [" ".join(spoilt[: len(spoilt) - int(rng.integers(3))])]
    return references, predictions


def sentence(rng):
    return " ".join(rng.choice(WORDS, size=int(rng.integers(6, 14))))


def only(texts, images):
    """The texts of some images; one that is drawn twice is there twice."""
    return {str(place): texts[image] for place, image in enumerate(images)}


def bleu_alone(references, predictions):
    from pycocoevalcap.bleu.bleu import Bleu

    return np.array(Bleu(4).compute_score(references, predictions, verbose=0)[0])


def test_bleu_is_pycocoevalcaps_and_the_mean_of_what_images_contribute():
    references, predictions = captions(30, spoil=0.3)
    scores, each = _bleu_scores(references, predictions)
    assert scores.tolist() == bleu_alone(references, predictions).tolist()
    np.testing.assert_allclose(each.mean(axis=1), scores, rtol=1e-12)


def test_what_an_image_contributes_to_bleu_is_what_is_lost_without_it():
    references, predictions = captions(12, spoil=0.3)
    _, each = _bleu_scores(references, predictions)
    images = list(references)
    without = np.array(
        [
            bleu_alone(only(references, rest), only(predictions, rest))
            for rest in ([image for image in images if image != left] for left in images)
        ]
    )
    np.testing.assert_allclose(each - each.mean(axis=1, keepdims=True), 11 * (without.mean(axis=0) - without).T)


@pytest.mark.parametrize("word", ["", "unheard"])
def test_bleu_of_captions_without_a_match_is_zero(word):
    references, predictions = captions(4, spoil=0)
    scores, each = _bleu_scores(references, dict.fromkeys(predictions, [word]))
    np.testing.assert_allclose(scores, 0, atol=1e-8)
    np.testing.assert_allclose(each, 0, atol=1e-8)


def counted(references, predictions):
    """pycocoevalcap's own scorer with every image counted, for scores of resamples."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for image, truth in references.items():
        scorer += (predictions[image][0], truth)
    return scorer


def bleu_4_of(scorer, drawn):
    resample = scorer.copy()
    resample.ctest = [scorer.ctest[place] for place in drawn]
    return resample.compute_score(option="closest")[0][3]


def test_the_interval_of_bleu_is_that_of_bleu_made_anew_for_every_resample():
    references, predictions = captions(150, spoil=0.4)
    scorer, rng = counted(references, predictions), np.random.default_rng(0)
    made_anew = [bleu_4_of(scorer, rng.integers(150, size=150)) for _ in range(600)]
    low, high = np.quantile(made_anew, [0.025, 0.975])
    found = bootstrap_interval(_bleu_scores(references, predictions)[1][3], count=2000, seed=0)
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


def test_the_interval_of_a_difference_of_bleu_is_that_of_paired_resamples():
    references, better = captions(150, spoil=0.3)
    _, worse = captions(150, spoil=0.5)
    scorers, rng = [counted(references, said) for said in (better, worse)], np.random.default_rng(1)
    made_anew = []
    for _ in range(600):
        drawn = rng.integers(150, size=150)
        made_anew.append(bleu_4_of(scorers[0], drawn) - bleu_4_of(scorers[1], drawn))
    low, high = np.quantile(made_anew, [0.025, 0.975])
    each = [_bleu_scores(references, said)[1][3] for said in (better, worse)]
    found = paired_difference(each[0], each[1], count=2000, seed=0)
    assert found.low == pytest.approx(low, abs=0.1 * (high - low))
    assert found.high == pytest.approx(high, abs=0.1 * (high - low))


@needs_java
def test_meteor_is_pycocoevalcaps_and_what_an_image_contributes_is_what_is_lost_without_it():
    from pycocoevalcap.meteor.meteor import Meteor

    references, predictions = captions(8, spoil=0.3)
    before = children()
    score, each = _meteor_score(references, predictions)
    assert children() == before
    alone, images = Meteor(), list(references)
    assert score == alone.compute_score(references, predictions)[0]
    assert each.mean() == pytest.approx(score, rel=1e-12)
    rests = [[image for image in images if image != left] for left in images]
    without = np.array([alone.compute_score(only(references, rest), only(predictions, rest))[0] for rest in rests])
    np.testing.assert_allclose(each - score, 7 * (without.mean() - without), atol=1e-9)


def children():
    return {name for name in os.listdir("/proc") if name.isdigit() and parent(name) == os.getpid()}


def parent(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])
    except FileNotFoundError:
        return None
