"""Which captions an evaluation looks at."""

import pandas as pd

from gmail_kedro.interfaces import Corpus


def split_rows(corpus: Corpus, split: str, *, image_count: int | None) -> pd.DataFrame:
    """Returns the captions of a split, of its first photographs only where a number is given.

    Args:
        corpus: The corpus.
        split: ``val`` or ``test``.
        image_count: Largest number of photographs, or None for all.

    Raises:
        ValueError: If the split has no photographs; lists the splits there are.
    """
    rows = corpus.captions[corpus.captions["split"] == split]
    if rows.empty:
        raise ValueError(
            f"The corpus {corpus.name!r} has no photographs in the split {split!r}. Its splits: "
            f"{sorted(corpus.captions['split'].unique())}. Set evaluation.split."
        )
    if image_count is None:
        return rows
    kept = set(list(dict.fromkeys(rows["image_id"]))[:image_count])
    return rows[rows["image_id"].isin(kept)]
