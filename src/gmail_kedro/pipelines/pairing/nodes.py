"""From a generated set to training pairs."""

import pyarrow as pa

from gmail_kedro.generated_sets.block_tables import Table
from gmail_kedro.generated_sets.pairing import pair_blocks
from gmail_kedro.params.generation import GenerationParams, PairingParams


def pair(
    captions: Table, generated_manifest: Table, params: PairingParams, generation: GenerationParams
) -> pa.RecordBatchReader:
    """Returns each generated image with the real image of its caption, split by real image, block by block.

    Args:
        captions: The captions of the corpus.
        generated_manifest: What became of each image.
        params: Share held out for validation, and its seed.
        generation: Says whether prompts were shared.

    Raises:
        ValueError: If a row cannot be paired, or a real image belongs to the corpus's val or test split.
    """
    return pair_blocks(captions, generated_manifest, params=params, generation=generation)
