"""What a generated set is to be, as whoever makes its shards needs it, in this process or elsewhere."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from gmail_kedro.generated_sets.pictures import Row
from gmail_kedro.generated_sets.plan import PLAN_COLUMNS
from gmail_kedro.generated_sets.quality import QualityGate, Scorer
from gmail_kedro.generated_sets.stored import SetDescription, describe_set
from gmail_kedro.interfaces import ImageGenerator
from gmail_kedro.params.quality import QualityParams

SETTINGS = ("generator", "revision", "steps", "guidance", "resolution", "jpeg_quality")


@dataclass(frozen=True)
class GenerationWork:
    """Everything it takes to make a generated set; the model itself is built only if a picture is missing.

    Attributes:
        plan: The pictures to make, as ``plan_images`` returns them.
        build_generator: Builds the image generator.
        settings: What decides the pixels beside the plan; at least the names in ``SETTINGS``, JSON values only.
        batch_size: Pictures made at once; it does not decide the pixels and may change between two runs.
        quality: What the gate refuses, how often a refused picture is made anew, and how many may be refused.
        scorer_name: Which model gives caption scores.
        build_scorer: Builds it; needed only where the gate asks for a least caption score.
        map_jobs: Makes shards on a cluster that sees the same folder; None: this process does.
    """

    plan: pd.DataFrame
    build_generator: Callable[[], ImageGenerator]
    settings: Mapping[str, Any]
    batch_size: int
    quality: QualityParams
    scorer_name: str = ""
    build_scorer: Callable[[], Scorer] | None = None
    map_jobs: Callable[[Callable[[], Any], Any], Iterator[Any]] | None = None

    def __post_init__(self) -> None:
        absent = [name for name in SETTINGS if name not in self.settings]
        absent += [name for name in PLAN_COLUMNS if name not in self.plan.columns]
        if absent:
            raise ValueError(f"The generation work lacks {absent} among its settings and plan columns.")
        if self.plan.empty:
            raise ValueError("The generation plan is empty; expected one row a picture.")
        if self.batch_size < 1:
            raise ValueError(f"generation.batch_size must be 1 or greater. Got {self.batch_size} instead.")
        if not 1 <= self.settings["jpeg_quality"] <= 95:
            raise ValueError(
                f"generation.jpeg_quality must be 1 to 95. Got {self.settings['jpeg_quality']} instead; "
                "above 95 files grow and pictures do not get better."
            )

    @cached_property
    def description(self) -> SetDescription:
        """What the finished set will consist of."""
        return describe_set(self.plan, self.settings, self.gate.settings)

    @cached_property
    def gate(self) -> QualityGate:
        """Judges the pictures."""
        return QualityGate(
            self.quality,
            resolution=self.settings["resolution"],
            scorer_name=self.scorer_name,
            build_scorer=self.build_scorer,
        )

    def rows(self, shard_id: str) -> list[Row]:
        """Returns the plan's rows of one shard."""
        rows: list[Row] = self.plan.iloc[self._positions[shard_id]][list(PLAN_COLUMNS)].to_dict("records")
        return rows

    def count_rows(self, shard_id: str) -> int:
        """Returns how many pictures one shard is to have."""
        return len(self._positions[shard_id])

    def first_sample(self, shard_id: str) -> int:
        """Returns the sample index of a shard's first picture."""
        return int(self.plan["sample_index"].iat[self._positions[shard_id][0]])

    @cached_property
    def _positions(self) -> Mapping[Any, Any]:
        return self.plan.groupby("shard_id", sort=False).indices

    @property
    def fingerprint(self) -> str:
        """Hash of the plan and the settings."""
        return self.description.fingerprint
