"""Which captions an evaluation looks at."""

import pandas as pd

from gmail_kedro.corpora.corpus_protocols import FEWEST
from gmail_kedro.interfaces import Corpus
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.retrieval_protocols import PROTOCOLS, check_protocol


def evaluation_rows(corpus: Corpus, params: EvaluationParams) -> pd.DataFrame:
    """Returns the captions that are scored: of the split, and as many of each image as the protocol takes.

    Raises:
        ValueError: If the split has fewer than two images, or not those of the retrieval protocol: a number that goes
            by a protocol's name is measured on all of it.
    """
    if params.retrieval_protocol is None:
        return split_rows(corpus, params.split, image_count=params.image_count)
    rows = split_rows(corpus, params.split, image_count=None)
    taken = rows.groupby("image_id", sort=False).head(PROTOCOLS[params.retrieval_protocol].captions_per_image)
    check_protocol(params.retrieval_protocol, image_count=taken["image_id"].nunique(), caption_count=len(taken))
    return taken


def split_rows(corpus: Corpus, split: str, *, image_count: int | None) -> pd.DataFrame:
    """Returns the captions of a split, of its first images only where a number is given.

    Raises:
        ValueError: If the split has fewer than two images; counts those of each split.
    """
    rows = corpus.captions[corpus.captions["split"] == split]
    if rows["image_id"].nunique() < FEWEST:
        counts = corpus.captions.groupby("split")["image_id"].nunique().to_dict()
        raise ValueError(
            f"The split {split!r} of the corpus {corpus.name!r} has {counts.get(split, 0)} images, and an "
            f"evaluation needs {FEWEST} at least. Its splits: {counts}. Set evaluation.split to another one, put more "
            "images into it, or divide the corpus anew: protocol: {held_out: {...}} in its catalog entry."
        )
    if image_count is None:
        return rows
    # The first in file order: the same ones in every run, so that runs are compared image by image.
    kept = set(list(dict.fromkeys(rows["image_id"]))[:image_count])
    return rows[rows["image_id"].isin(kept)]
