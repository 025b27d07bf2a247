"""The training captions that an image or a text is compared with: their features, words and nouns."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from gmail_kedro.models.strict_loading import read_state_dict
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import atomic_write

FEATURES_FILE, WORDS_FILE = "caption_memory.safetensors", "caption_memory.json"
QUERY_ROWS, MEMORY_ROWS = 1024, 65536


@dataclass(frozen=True)
class CaptionMemory:
    """Captions by row, each with its text feature.

    Attributes:
        features: Text features as the encoder gives them, float16 [M, D].
        captions: The captions, M of them.
        nouns: The nouns of each caption, in order and as often as they occur.
    """

    features: torch.Tensor
    captions: list[str]
    nouns: list[list[str]]

    def __post_init__(self) -> None:
        """Refuses parts of different lengths, and features that float16 cannot hold.

        Raises:
            ValueError: In these cases.
        """
        if not len(self.features) == len(self.captions) == len(self.nouns):
            raise ValueError(
                f"A caption memory has one row a caption. Got {len(self.features)} features, {len(self.captions)} "
                f"captions and {len(self.nouns)} lists of nouns."
            )
        if self.features.dtype != torch.float16 or not torch.isfinite(self.features).all():
            raise ValueError("The features of a caption memory must be float16 and finite.")

    def __len__(self) -> int:
        return len(self.captions)

    def nearest(
        self, queries: torch.Tensor, *, count: int, excluded: torch.Tensor | None = None, rows: int = MEMORY_ROWS
    ) -> torch.Tensor:
        """Returns the captions whose features have the largest cosines with each query, int64 [Q, count], best first.

        Exact: every pair is compared, block by block, so that memory does not grow with Q times M.

        Args:
            queries: Features [Q, D], any norm; the search runs where they are.
            count: How many.
            excluded: For each query a row that is not returned, int64 [Q]; -1 for none.
            rows: Captions in a block.

        Raises:
            ValueError: If the memory has not that many captions to give, or the widths differ.
        """
        if queries.shape[1] != self.features.shape[1]:
            raise ValueError(
                f"The captioner reads embeddings of width {self.features.shape[1]}. Got {queries.shape[1]} instead: "
                "they are another encoder's. Set run.encoder to the one it was trained with."
            )
        spare = 0 if excluded is None else 1
        if len(self) < count + spare:
            raise ValueError(
                f"{count} captions are to be retrieved, and the memory holds {len(self)}. Set ifcap.retrieved_count "
                "and ifcap.entity_captions lower, or train on more captions."
            )
        found = []
        for start in range(0, len(queries), QUERY_ROWS):
            part = slice(start, start + QUERY_ROWS)
            without = None if excluded is None else excluded[part].to(queries.device)
            found.append(self._nearest(F.normalize(queries[part].float(), dim=-1), count, without, rows))
        return torch.cat(found) if found else torch.zeros(0, count, dtype=torch.long)

    def _nearest(self, unit: torch.Tensor, count: int, excluded: torch.Tensor | None, rows: int) -> torch.Tensor:
        best = torch.full((len(unit), 0), 0.0, device=unit.device)
        which = torch.zeros(len(unit), 0, dtype=torch.long, device=unit.device)
        for start in range(0, len(self), rows):
            block = F.normalize(self.features[start : start + rows].to(unit.device).float(), dim=-1)
            cosines = unit @ block.T
            if excluded is not None:
                inside = (excluded >= start) & (excluded < start + len(block))
                cosines[inside, excluded[inside] - start] = -torch.inf
            top, column = cosines.topk(min(count, len(block)), dim=1)
            best, which = torch.cat([best, top], dim=1), torch.cat([which, column + start], dim=1)
            best, order = best.topk(min(count, best.shape[1]), dim=1)
            which = which.gather(1, order)
        return which

    def save(self, folder: Path) -> None:
        """Writes the features as safetensors, and captions and nouns as JSON last."""
        from safetensors.torch import save_file

        save_file({"features": self.features.contiguous()}, folder / FEATURES_FILE)
        with atomic_write(folder / WORDS_FILE) as partial:
            partial.write_text(json.dumps({"captions": self.captions, "nouns": self.nouns}, ensure_ascii=False))

    @classmethod
    def load(cls, folder: Path) -> "CaptionMemory":
        """Returns the memory stored in a folder.

        Raises:
            MissingWeightsError: If there is none, or it has not one row of features for each caption.
        """
        for name in (FEATURES_FILE, WORDS_FILE):
            if not (folder / name).is_file():
                raise MissingWeightsError(
                    f"There is no {name} in {folder}. Train again: kedro run --pipeline=downstream"
                )
        words = json.loads((folder / WORDS_FILE).read_text(encoding="utf-8"))
        stored = read_state_dict(FEATURES_FILE, folder / FEATURES_FILE).get("features")
        counts = [0 if stored is None else len(stored), len(words["captions"]), len(words["nouns"])]
        if stored is None or len(set(counts)) != 1:
            raise MissingWeightsError(
                f"The caption memory in {folder} has {counts[0]} rows of features, {counts[1]} captions and nouns of "
                f"{counts[2]}; it must have as many of each. Train again: kedro run --pipeline=downstream"
            )
        return cls(stored.half(), words["captions"], words["nouns"])


def build_memory(features: torch.Tensor, captions: Sequence[str], nouns: Sequence[list[str]]) -> CaptionMemory:
    """Returns the memory of captions with their text features [M, D], rounded to float16."""
    return CaptionMemory(features.half().cpu(), list(captions), list(nouns))
