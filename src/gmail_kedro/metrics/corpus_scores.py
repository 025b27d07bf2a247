"""BLEU and METEOR of a whole set of captions, and what each image contributes to them.

Neither is a mean over images: both add up counts over all images and make one number of the sums. What an image
contributes follows from the score without it (``jackknife_values``), so that intervals and paired tests can treat these
two as they treat means.
"""

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from gmail_kedro.metrics.statistics import jackknife_values
from gmail_kedro.metrics.unavailable import MetricUnavailableError, require_java

Texts = dict[str, list[str]]
BLEU_ORDER = 4
TINY, SMALL = 1e-15, 1e-9  # what pycocoevalcap adds to counts, so that no matches give 0 and no words no error


def bleu_scores(references: Texts, predictions: Texts) -> tuple[np.ndarray, np.ndarray]:
    """Returns corpus BLEU-1 to 4 by pycocoevalcap, and what each image contributes.

    Args:
        references: Tokens of each image's captions, joined by spaces.
        predictions: One prediction for each image, likewise, in the same order.

    Returns:
        The scores, in [0, 1], of shape [4], and the contributions, of shape [4, N], whose means are the scores.
    """
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=BLEU_ORDER)
    for image, truth in references.items():
        scorer += (predictions[image][0], truth)
    scores, _ = scorer.compute_score(option="closest")
    counts = np.array([_counts(image) for image in scorer.ctest], dtype=np.float64)
    without = _bleu_of_counts(counts.sum(axis=0) - counts)
    each = [jackknife_values(score, left) for score, left in zip(scores, without.T, strict=True)]
    return np.array(scores), np.stack(each)


def meteor_score(references: Texts, predictions: Texts) -> tuple[float, np.ndarray]:
    """Returns METEOR 1.5 of the whole set from one Java process, and what each image contributes.

    Args:
        references: As in ``bleu_scores``.
        predictions: Likewise.

    Returns:
        The score, in [0, 1], and the contributions, of shape [N], whose mean is the score.

    Raises:
        MetricUnavailableError: If there is no Java, or the process ends or answers with no number.
    """
    from pycocoevalcap.meteor.meteor import Meteor

    require_java("METEOR", "or leave it out with with_meteor=False")
    safe = {image: [text.replace("|||", "") for text in captions] for image, captions in references.items()}
    scorer = Meteor()
    try:
        statistics = [scorer._stat(predictions[image][0], truth) for image, truth in safe.items()]
        counts = np.array([line.split() for line in statistics], dtype=np.float64)
        score = _meteor_of_counts(scorer, statistics)
        without = [_meteor_of_counts(scorer, [_line(left)]) for left in counts.sum(axis=0) - counts]
        return score, jackknife_values(score, np.array(without))
    except (OSError, ValueError) as error:
        scorer.meteor_p.kill()
        log = scorer.meteor_p.stderr.read().decode(errors="replace")[-500:]
        raise MetricUnavailableError(f"METEOR stopped with {error!r}. Java's own message: {log}") from error
    finally:
        _end(scorer)


def _counts(image: dict[str, Any]) -> list[float]:
    """Returns what BLEU adds up: matches by order, n-grams by order, words, words of the closest reference."""
    words = image["testlen"]
    closest = min((abs(length - words), length) for length in image["reflen"])[1]
    return [*image["correct"], *image["guess"], words, closest]


def _bleu_of_counts(counts: np.ndarray) -> np.ndarray:
    """Returns BLEU-1 to 4, of shape [N, 4], of sums of counts, [N, 10]."""
    matches, ngrams, words, wanted = np.split(counts, [BLEU_ORDER, 2 * BLEU_ORDER, 2 * BLEU_ORDER + 1], axis=1)
    precisions = (matches + TINY) / (ngrams + SMALL)
    ratio = (words + TINY) / (wanted + SMALL)
    return np.cumprod(precisions, axis=1) ** (1 / np.arange(1, BLEU_ORDER + 1)) * np.exp(np.minimum(0, 1 - 1 / ratio))


def _meteor_of_counts(scorer: Any, statistics: Sequence[str]) -> float:
    """Returns METEOR of all images whose statistics these are; the process answers for each, then for all."""
    scorer.meteor_p.stdin.write(" ||| ".join(["EVAL", *statistics]).encode() + b"\n")
    scorer.meteor_p.stdin.flush()
    answers = [scorer.meteor_p.stdout.readline().strip() for _ in range(len(statistics) + 1)]
    score = float(answers[-1])
    if not np.isfinite(score):
        raise ValueError(f"METEOR returned {score}, which is no score")
    return score


def _line(counts: np.ndarray) -> str:
    return " ".join(f"{count:.12g}" for count in counts)


def _end(scorer: Any) -> None:
    """Ends the METEOR process at once."""
    scorer.meteor_p.kill()
    scorer.meteor_p.wait()
    for stream in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
        with contextlib.suppress(OSError):
            stream.close()
