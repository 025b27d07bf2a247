"""The commands that messages about a generated set advise, with the set's own name in them."""

from pathlib import Path


def remake(folder: Path, pipeline: str = "generation") -> str:
    """Returns the command that makes again what is missing of a set; good shards are kept.

    Args:
        folder: Home of the set, or of its pairs: its name is the set's.
        pipeline: ``generation``, or ``pairing`` for the pairs.
    """
    return f'kedro run --pipeline={pipeline} --params="set={Path(folder).name},…" (with the set\'s own parameters)'
