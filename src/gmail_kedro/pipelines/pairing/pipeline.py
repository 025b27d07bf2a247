"""Wiring of the pairing pipeline."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.pipelines.pairing.nodes import pair


def create_pipeline(**kwargs: object) -> Pipeline:
    """Returns: the pairs.

    Args:
        **kwargs: Unused; Kedro's registry may pass some.
    """
    inputs = ["captions", "generated_manifest@blocks", "params:pairing", "params:generation"]
    return Pipeline([node(pair, inputs, "pairs", name="pair")], tags="pairing")
