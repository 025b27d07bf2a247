"""IFCap (EMNLP 2024): a captioner that looks at retrieved captions and is told which things they mention.

One encoder gives all features here; the published one retrieves with a second, larger CLIP.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.captioners.caption_memory import CaptionMemory
from gmail_kedro.models.captioners.captioner import IGNORED, Captioner, pad_rows
from gmail_kedro.models.captioners.captioner_spec import CaptionerSpec
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec, build_mapper
from gmail_kedro.models.vision_language.language_tuning import TunedLanguageModel

NOTHING = "something"


@dataclass(frozen=True)
class EntityFilter:
    """Which nouns of the retrieved captions are named in the hard prompt (frequency-based entity filtering).

    Attributes:
        captions: Retrieved captions whose nouns are counted.
        kind: ``count`` keeps nouns that occur at least ``threshold`` times; ``adaptive`` those that occur more often
            than the mean of the counts plus ``alpha`` standard deviations.
        threshold: For ``count``.
        alpha: For ``adaptive``.
        limit: Most nouns in a prompt.
    """

    captions: int
    kind: str
    threshold: int
    alpha: float
    limit: int

    def keep(self, nouns: Sequence[str]) -> list[str]:
        """Returns the nouns that pass, the most frequent first; among equals the one that came first.

        Args:
            nouns: Every occurrence in the retrieved captions.
        """
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
    """What IFCap stores in its configuration beside what all captioners do.

    Attributes:
        retrieved_count: Captions K whose features the fusion module looks at.
        entities: Which nouns the hard prompt names.
        nouns_from: How the nouns of the captions were found, for the record.
    """

    retrieved_count: int
    entities: EntityFilter
    nouns_from: str


def hard_prompt(entities: Sequence[str]) -> str:
    """Returns the sentence that names the entities."""
    return f"There are {', '.join(entities) if entities else NOTHING} in image."


class IfcapCaptioner(Captioner):
    """Soft tokens from embedding and retrieved features, a hard prompt behind them, then the caption.

    Args:
        spec: What it consists of; its details are those of ``IfcapDetails``.
        mapper: A fusion mapper.
        language: Reads both prompts and writes the caption.
        memory: The training captions.
    """

    def __init__(
        self, spec: CaptionerSpec, mapper: torch.nn.Module, language: TunedLanguageModel, memory: CaptionMemory
    ) -> None:
        super().__init__(spec, mapper, language)
        self.memory = memory
        entities = EntityFilter(**spec.details["entities"])
        self.details = IfcapDetails(**{**spec.details, "entities": entities})

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
        prompts, captions = self._prompt_ids(entities, tokens.shape[1]), tokens.tolist()
        words = [[token for token in row if token != IGNORED] for row in captions]
        read = pad_rows([prompt + row for prompt, row in zip(prompts, words, strict=True)])
        learnt = pad_rows([[IGNORED] * len(prompt) + row for prompt, row in zip(prompts, words, strict=True)])
        prefix = self.mapper(embeddings, self._features(retrieved, embeddings.device))
        return self.loss_after(prefix, read.to(prefix.device), learnt.to(prefix.device))

    @torch.no_grad()
    def caption(
        self, embeddings: torch.Tensor, *, beam_size: int, max_tokens: int, origin: FeatureOrigin | None = None
    ) -> list[str]:
        """Writes one caption for each embedding of [B, D]: retrieves, filters nouns, then searches with beams.

        Args:
            embeddings: Of real images, [B, D].
            beam_size: Beams of the search.
            max_tokens: Longest caption, in tokens.
            origin: What made the embeddings, where it is known.

        Raises:
            ValueError: As ``Captioner.caption``.
        """
        self.spec.refuse_foreign(origin)
        wanted = max(self.details.retrieved_count, self.details.entities.captions)
        rows = self.memory.nearest(embeddings, count=wanted)
        retrieved = self._features(rows[:, : self.details.retrieved_count], embeddings.device)
        prefix = self.mapper(embeddings, retrieved)
        prompts = self._prompt_ids(self.find_entities(rows), max_tokens)
        padded, mask = self._pad_left(prefix, prompts)
        return self.write_after(padded, mask, beam_size=beam_size, max_tokens=max_tokens)

    def find_entities(self, rows: torch.Tensor) -> list[list[str]]:
        """Returns what passes the entity filter among the nouns of retrieved captions, int64 [B, N], best first."""
        chosen = rows[:, : self.details.entities.captions].tolist()
        return [
            self.details.entities.keep([noun for row in found for noun in self.memory.nouns[row]]) for found in chosen
        ]

    def save_pretrained(self, folder: Path) -> None:
        """Writes what every captioner writes, and the memory."""
        folder.mkdir(parents=True, exist_ok=True)
        self.memory.save(folder)
        super().save_pretrained(folder)

    def _features(self, rows: torch.Tensor, device: torch.device) -> torch.Tensor:
        return self.memory.features[rows.cpu()].to(device)

    def _prompt_ids(self, entities: Sequence[Sequence[str]], caption_tokens: int) -> list[list[int]]:
        """Returns the hard prompts' token ids, the last entities left out where the language model has no room."""
        room = self.language.position_count - self.spec.mapper.prefix_length - caption_tokens
        prompts = self._ids_of([hard_prompt(named) for named in entities])
        for index, named in enumerate(entities):
            shorter = list(named)
            while len(prompts[index]) > room and shorter:
                shorter.pop()
                prompts[index] = self._ids(hard_prompt(shorter))
        return prompts

    def _pad_left(self, prefix: torch.Tensor, prompts: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns soft and hard tokens [B, N, W] ending together, and their mask [B, N]."""
        longest = max(len(prompt) for prompt in prompts)
        embed = self.language_model.get_input_embeddings()
        rows, mask = [], torch.zeros(len(prompts), longest + prefix.shape[1], dtype=torch.long, device=prefix.device)
        for index, prompt in enumerate(prompts):
            words = embed(torch.tensor(prompt, device=prefix.device))
            padding = words.new_zeros(longest - len(prompt), words.shape[1])
            rows.append(torch.cat([padding, prefix[index].to(words.dtype), words]))
            mask[index, longest - len(prompt) :] = 1
        return torch.stack(rows), mask


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
    """Returns an IFCap captioner with a fresh fusion mapper.

    Args:
        language: A causal language model, ready to be trained.
        mapper: The fusion mapper's sizes.
        memory: The training captions.
        details: How many captions are retrieved, and which nouns are named.
        caption_end: ``end_token`` or ``period``.
        origin: What makes the embeddings it is trained on.
        seed: Seeds the mapper.
    """
    spec = CaptionerSpec("ifcap", mapper, caption_end, origin, asdict(details))
    return IfcapCaptioner(spec, build_mapper(mapper, seed=seed), language, memory)
