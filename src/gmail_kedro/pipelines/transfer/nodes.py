"""Nodes of the transfer pipeline: retrieval on corpora that nothing was trained on."""

import logging
from typing import Any

import pandas as pd

from gmail_kedro.evaluation.leakage import count_leaked, refuse_leakage
from gmail_kedro.interfaces import Corpus
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.params.transfer import TransferParams

logger = logging.getLogger(__name__)

SPLIT = "test"  # nothing is chosen on these corpora, so nothing but their test split is read


def plan_transfer(
    corpus: Corpus,
    flickr_corpus: Corpus,
    long_caption_corpus: Corpus,
    params: TransferParams,
    evaluation: EvaluationParams,
) -> tuple[EvaluationParams, EvaluationParams, dict[str, dict[str, Any]]]:
    """Returns what to measure on each of the two corpora, and what is known of them.

    Images that are trained on are refused in Flickr's place. In ShareGPT4V's they are counted and said: its first
    1,000 images are partly COCO's training images, and the paper measures on them all the same.

    Raises:
        ValueError: If ``flickr_corpus`` holds training images of ``corpus``.
    """
    # Before anything is encoded: an hour on images that were trained on would be lost.
    refuse_leakage(corpus, flickr_corpus)
    trained_count = count_leaked(corpus, long_caption_corpus)
    if trained_count:
        logger.warning(
            "%d training images of %r are among those of %r; its scores are not of unseen images alone.",
            trained_count,
            corpus.name,
            long_caption_corpus.name,
        )
    # The benchmarks' own sizes, whatever the run's own evaluation is cut to.
    whole = evaluation.replace(split=SPLIT, image_count=None)
    facts = {
        "flickr": {"corpus": flickr_corpus.name, "split": SPLIT, "trained_picture_count": 0},
        "long_captions": {"corpus": long_caption_corpus.name, "split": SPLIT, "trained_picture_count": trained_count},
    }
    # Each benchmark with its own protocol: which images, and how many captions of each.
    return (
        whole.replace(retrieval_protocol=params.flickr_protocol),
        whole.replace(retrieval_protocol=params.long_caption_protocol),
        facts,
    )


def collect_transfer(
    flickr_scores: dict[str, Any],
    long_caption_scores: dict[str, Any],
    facts: dict[str, dict[str, Any]],
    adapter: StoredStudent,
    run: RunParams,
) -> dict[str, Any]:
    """Gathers the scores on both corpora with what they were measured on and through."""
    # What was measured on stands beside the scores: the number of trained images is a part of the result.
    return {
        "flickr": flickr_scores | facts["flickr"],
        "long_captions": long_caption_scores | facts["long_captions"],
        "protocol": {"encoder": run.encoder, "real_path": adapter.spec.real_path, "seed": run.seed},
    }


def collect_transfer_items(flickr_items: pd.DataFrame, long_caption_items: pd.DataFrame) -> pd.DataFrame:
    """Returns recall image by image: ``group``, ``image_id``, ``measure``, ``value``."""
    # Apart by group: both corpora may have an image of one id.
    parts = {"flickr": flickr_items, "long_captions": long_caption_items}
    return pd.concat([items.assign(group=group) for group, items in parts.items()], ignore_index=True)
