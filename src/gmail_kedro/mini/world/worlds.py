"""The kinds of mini world: the corpus that is trained on, and two that are only measured on.

What Flickr30k is to COCO: other photographers, other annotators. So its scenes show other inks and papers more often,
more numbers of two digits and smaller writing, and its captions say other things of them; they are of the same world
and in the same words. What ShareGPT4V is: one long caption an image. Its sentences stand in any order, because a
model that cuts the end off must lose facts, not repetitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from gmail_kedro.mini.world.caption_grammar import USUAL_MANNER, Manner
from gmail_kedro.mini.world.params import MiniBenchmarksParams, MiniWorldParams
from gmail_kedro.mini.world.scenes import USUAL_MIX, SceneMix

MAIN, FLICKR, LONG_CAPTIONS = "main", "flickr", "long_captions"


@dataclass(frozen=True)
class WorldKind:
    """What all worlds of a kind have in common.

    Attributes:
        params: The parameter group that gives its size.
        count_fields: For each split, the parameter that says how many scenes it has.
        streams: For each split, the number of its stream of random scenes; no two share one.
        pair_fraction: Share of scenes that show two digits, in [0, 1].
        mix: How often scenes show what else.
        manner: How often captions say what.
        shuffles: Whether the sentences of long captions stand in any order.
    """

    params: type[MiniWorldParams] | type[MiniBenchmarksParams]
    count_fields: Mapping[str, str]
    streams: Mapping[str, int]
    pair_fraction: float = 0.4
    mix: SceneMix = field(default=USUAL_MIX)
    manner: Manner = field(default=USUAL_MANNER)
    shuffles: bool = False

    def counts(self, params: MiniWorldParams | MiniBenchmarksParams) -> dict[str, int]:
        """Returns the number of scenes of each split."""
        return {split: getattr(params, name) for split, name in self.count_fields.items()}

    def facts(self, params: MiniWorldParams | MiniBenchmarksParams) -> dict[str, Any]:
        """Returns the parameters that a world of this kind is made from, by name."""
        return {name: getattr(params, name) for name in (*self.count_fields.values(), "seed")}


KINDS: Mapping[str, WorldKind] = MappingProxyType(
    {
        MAIN: WorldKind(
            params=MiniWorldParams,
            count_fields={"train": "train_count", "val": "val_count", "test": "test_count"},
            streams={"train": 0, "val": 1, "test": 2},
        ),
        FLICKR: WorldKind(
            params=MiniBenchmarksParams,
            count_fields={"test": "flickr_count"},
            streams={"test": 3},
            pair_fraction=0.55,
            mix=SceneMix(
                inks=(0.3, 0.3, 0.1, 0.1, 0.1, 0.1),
                papers=(0.4, 0.3, 0.1, 0.2),
                patterns=(0.3, 0.4, 0.3),
                sizes=(0.65, 0.35),
            ),
            manner=Manner(
                size=0.25, handwritten=0.45, ink_first=0.6, ink=0.9, position=0.6, relation=0.3, figures=0.6, paper=0.75
            ),
        ),
        LONG_CAPTIONS: WorldKind(
            params=MiniBenchmarksParams,
            count_fields={"test": "long_caption_count"},
            streams={"test": 4},
            shuffles=True,
        ),
    }
)


def find_kind(name: str, params: MiniWorldParams | MiniBenchmarksParams) -> WorldKind:
    """Returns a kind of world by its name.

    Raises:
        ValueError: If there is none of that name; the message lists the known ones.
        TypeError: If the parameters are those of another kind.
    """
    if name not in KINDS:
        raise ValueError(f"The kind of a mini world must be one of {list(KINDS)}. Got {name!r} instead.")
    kind = KINDS[name]
    if not isinstance(params, kind.params):
        raise TypeError(
            f"A mini world of the kind {name!r} is made from {kind.params.__name__}. Got {type(params).__name__} "
            "instead. Return those parameters from the node."
        )
    return kind
