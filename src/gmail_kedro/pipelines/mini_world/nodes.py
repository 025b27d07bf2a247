"""The nodes that ask for the embedded corpora."""

from gmail_kedro.params.mini_world import MiniBenchmarksParams, MiniWorldParams


def build_mini_world(params: MiniWorldParams) -> MiniWorldParams:
    """Returns the parameters of the world; the catalog's ``corpus`` writes it when they are saved there.

    Args:
        params: How many scenes of each split, and the seed.
    """
    return params


def build_mini_benchmarks(params: MiniBenchmarksParams) -> tuple[MiniBenchmarksParams, MiniBenchmarksParams]:
    """Returns the parameters of the two worlds that are only measured on; the catalog's entries write them.

    Args:
        params: How many scenes each has, and the seed.
    """
    return params, params
