"""IFCap (EMNLP 2024): a captioner that looks at retrieved captions and is told which things they mention.

Beside the image's embedding it reads two things that come from a memory of training captions: the features of the
nearest ones, fused into the prefix, and a hard prompt that names the nouns they have in common. What the language model
reads is ``prefix [L], hard prompt, caption``. One encoder gives all features here; the published IFCap retrieves with a
second, larger CLIP.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.captioners.captioner import REMEDY, Captioner, CaptionerSpec
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec, build_mapper
from gmail_kedro.models.strict_loading import read_state_dict
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX, pad_rows
from gmail_kedro.models.vision_language.language_models import TunedLanguageModel
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import atomic_write

FEATURES_FILE, CAPTIONS_FILE = "caption_memory.safetensors", "caption_memory.json"
QUERY_ROWS, MEMORY_ROWS = 1024, 65536  # a block of cosines takes 256 MiB in float32
NOTHING = "something"


@dataclass(frozen=True)
class CaptionMemory:
    """The training captions that an image or a text is compared with, each with its text feature."""

    features: torch.Tensor  # as the encoder gives them, float16 [M, D]
    captions: list[str]
    nouns: list[list[str]]  # of each caption, in order and as often as they occur

    def __post_init__(self) -> None:
        """Refuses parts of different lengths, and features that float16 cannot hold, by a ``ValueError``."""
        if not len(self.features) == len(self.captions) == len(self.nouns):
            raise ValueError(
                f"A caption memory has one row a caption. Got {len(self.features)} rows of features, "
                f"{len(self.captions)} captions and {len(self.nouns)} lists of nouns."
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
        best = torch.full((len(unit), 0), 0.0, device=unit.device)  # [Q, 0 .. count]
        which = torch.zeros(len(unit), 0, dtype=torch.long, device=unit.device)
        for start in range(0, len(self), rows):
            block = F.normalize(self.features[start : start + rows].to(unit.device).float(), dim=-1)
            cosines = unit @ block.T  # [Q, rows]
            if excluded is not None:
                # A caption in training would find itself first, and the captioner learn to copy what it retrieves.
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
        with atomic_write(folder / CAPTIONS_FILE) as partial:
            partial.write_text(
                json.dumps({"captions": self.captions, "nouns": self.nouns}, ensure_ascii=False), encoding="utf-8"
            )

    @classmethod
    def load(cls, folder: Path) -> "CaptionMemory":
        """Returns the memory stored in a folder.

        Raises:
            MissingWeightsError: If there is none, or it has not one row of features for each caption.
        """
        for name in (FEATURES_FILE, CAPTIONS_FILE):
            if not (folder / name).is_file():
                raise MissingWeightsError(f"There is no {name} in {folder}. {REMEDY}")
        texts = json.loads((folder / CAPTIONS_FILE).read_text(encoding="utf-8"))
        features = read_state_dict(FEATURES_FILE, folder / FEATURES_FILE).get("features", torch.zeros(0, 0))
        try:
            return cls(features.half(), texts["captions"], texts["nouns"])
        except ValueError as error:
            raise MissingWeightsError(f"The caption memory in {folder} is damaged: {error} {REMEDY}") from error


def build_memory(features: torch.Tensor, captions: Sequence[str], nouns: Sequence[list[str]]) -> CaptionMemory:
    """Returns the memory of captions with their text features [M, D], rounded to float16."""
    return CaptionMemory(features.half().cpu(), list(captions), list(nouns))


@dataclass(frozen=True)
class EntityFilter:
    """Which nouns of the retrieved captions are named in the hard prompt (frequency-based entity filtering)."""

    captions: int  # retrieved captions whose nouns are counted
    kind: str  # count or adaptive
    threshold: int  # how often a noun must occur, for count
    alpha: float  # adaptive keeps what occurs more often than the counts' mean + alpha * their standard deviation
    limit: int  # most nouns in a prompt

    def keep(self, nouns: Sequence[str]) -> list[str]:
        """Returns those of all nouns' occurrences that pass, the most frequent first; among equals the earlier one."""
        counts = Counter(nouns)
        if not counts:
            return []
        values = np.array(list(counts.values()), dtype=float)
        if self.kind == "adaptive":
            kept = [noun for noun, count in counts.most_common() if count > values.mean() + self.alpha * values.std()]
        else:
            kept = [noun for noun, count in counts.most_common() if count >= self.threshold]
        return kept[: self.limit]


@dataclass(frozen=True)
class IfcapDetails:
    """What IFCap stores in its configuration beside what all captioners do."""

    retrieved_count: int  # captions K whose features the fusion module looks at
    entities: EntityFilter
    nouns_from: str  # how the nouns of the captions were found, for the record


def hard_prompt(entities: Sequence[str]) -> str:
    """Returns the sentence that names the entities."""
    return f"There are {', '.join(entities) if entities else NOTHING} in image."


class IfcapCaptioner(Captioner):
    """Soft tokens from embedding and retrieved features, a hard prompt behind them, then the caption.

    Its mapper is a ``FusionMapper``, the details of its spec those of ``IfcapDetails``.
    """

    def __init__(
        self, spec: CaptionerSpec, mapper: torch.nn.Module, language: TunedLanguageModel, memory: CaptionMemory
    ) -> None:
        super().__init__(spec, mapper, language)
        self.memory = memory
        entities = EntityFilter(**spec.details["entities"])
        self.details = IfcapDetails(**{**spec.details, "entities": entities})

    @classmethod
    def from_folder(
        cls, spec: CaptionerSpec, mapper: torch.nn.Module, language: TunedLanguageModel, folder: Path
    ) -> "IfcapCaptioner":
        """Returns a stored captioner with its memory."""
        return cls(spec, mapper, language, CaptionMemory.load(folder))

    def loss_with(
        self, embeddings: torch.Tensor, tokens: torch.Tensor, retrieved: torch.Tensor, entities: Sequence[Sequence[str]]
    ) -> torch.Tensor:
        """Returns the mean next-token cross-entropy of captions; the hard prompt is read and not learnt.

        Args:
            embeddings: What stands for the image, [B, D].
            tokens: The captions, [B, T], padded with -100.
            retrieved: Rows of the memory, int64 [B, K].
            entities: What each hard prompt names.
        """
        prompts = self._prompt_ids(entities, tokens.shape[1])
        captions = [[token for token in row if token != IGNORE_INDEX] for row in tokens.tolist()]
        read = pad_rows([prompt + row for prompt, row in zip(prompts, captions, strict=True)])
        learnt = pad_rows([[IGNORE_INDEX] * len(prompt) + row for prompt, row in zip(prompts, captions, strict=True)])
        prefix = self.mapper(embeddings, self._features(retrieved, embeddings.device))  # [B, L, W]
        return self.loss_after(prefix, read.to(prefix.device), learnt.to(prefix.device))

    @torch.no_grad()
    def caption(
        self, embeddings: torch.Tensor, *, beam_size: int, max_tokens: int, origin: FeatureOrigin | None = None
    ) -> list[str]:
        """Writes one caption for each embedding [B, D]: retrieves, filters nouns, then searches as ClipCap does."""
        self.spec.refuse_foreign(origin)
        wanted = max(self.details.retrieved_count, self.details.entities.captions)
        rows = self.memory.nearest(embeddings, count=wanted)  # [B, N]
        retrieved = self._features(rows[:, : self.details.retrieved_count], embeddings.device)  # [B, K, D]
        prefix = self.mapper(embeddings, retrieved)  # [B, L, W]
        prompts = self._prompt_ids(self.find_entities(rows), max_tokens)
        inputs, mask = self._pad_left(prefix, prompts)
        return self.generate_after(inputs, mask, beam_size=beam_size, max_tokens=max_tokens)

    def find_entities(self, rows: torch.Tensor) -> list[list[str]]:
        """Returns what passes the entity filter among the nouns of retrieved captions, int64 [B, N], best first."""
        chosen = rows[:, : self.details.entities.captions].tolist()
        return [
            self.details.entities.keep([noun for row in found for noun in self.memory.nouns[row]]) for found in chosen
        ]

    def save_pretrained(self, folder: Path) -> None:
        """Writes what every captioner writes, and the memory."""
        folder.mkdir(parents=True, exist_ok=True)
        self.memory.save(folder)  # first: the checksums that the rest ends with are of every file
        super().save_pretrained(folder)

    def _features(self, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        return self.memory.features[rows.cpu()].to(device)

    def _prompt_ids(self, entities: Sequence[Sequence[str]], caption_tokens: int) -> list[list[int]]:
        """Returns the hard prompts' token ids, the last entities left out where the language model has no room."""
        room = self.language.position_count - self.spec.mapper.prefix_length - caption_tokens
        prompts = self._token_ids([hard_prompt(named) for named in entities])
        for index, named in enumerate(entities):
            shorter = list(named)
            while len(prompts[index]) > room and shorter:
                shorter.pop()
                prompts[index] = self._token_ids([hard_prompt(shorter)])[0]
        return prompts

    def _pad_left(self, prefix: torch.Tensor, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns soft and hard tokens [B, N, W] ending together, for the caption to follow them, and their mask."""
        embed = self.language_model.get_input_embeddings()
        rows = []
        for soft, prompt in zip(prefix, prompts, strict=True):
            hard = embed(torch.tensor(prompt, device=prefix.device))
            rows.append(torch.cat([soft.to(hard.dtype), hard]))  # [L + P, W]
        ones = [torch.ones(len(row), dtype=torch.long, device=row.device) for row in rows]
        inputs, mask = (
            torch.nn.utils.rnn.pad_sequence(each, batch_first=True, padding_side="left") for each in (rows, ones)
        )
        return inputs, mask


def build_ifcap(
    language: TunedLanguageModel,
    mapper: MapperSpec,
    memory: CaptionMemory,
    details: IfcapDetails,
    *,
    caption_end: str,
    origin: FeatureOrigin | None,
    seed: int,
) -> IfcapCaptioner:
    """Returns an IFCap captioner with a fresh fusion mapper, drawn from the seed."""
    spec = CaptionerSpec("ifcap", mapper, caption_end, origin, asdict(details))
    return IfcapCaptioner(spec, build_mapper(mapper, seed=seed), language, memory)
