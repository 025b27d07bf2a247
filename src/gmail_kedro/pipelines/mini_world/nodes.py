"""The node that asks for the embedded corpus."""

from gmail_kedro.params import MiniWorldParams


def build_mini_world(params: MiniWorldParams) -> MiniWorldParams:
    """Returns the parameters of the world; the catalog's ``corpus`` writes it when they are saved there.

    Args:
        params: How many scenes of each split, and the seed.
    """
    return params
