"""From a generated set to training pairs."""

import pandas as pd

from gmail_kedro.params import PairingParams
from gmail_kedro.records.pairing import check_leakage, pair_by_caption


def pair(captions: pd.DataFrame, generated_manifest: pd.DataFrame, params: PairingParams) -> pd.DataFrame:
    """Returns each generated picture with the photograph of its caption, split by photograph.

    Args:
        captions: The captions of the corpus.
        generated_manifest: The pictures that were made.
        params: Share held out for validation, and its seed.

    Raises:
        ValueError: If a row cannot be paired, or a photograph belongs to the corpus's val or test split.
    """
    pairs = pair_by_caption(captions, generated_manifest, params=params)
    check_leakage(pairs, captions)
    return pairs
