"""Captioners: a mapper makes soft tokens of an image embedding, and a language model goes on from there.

``clipcap`` (arXiv 2111.09734) has an MLP or a transformer as its mapper. Any causal language model will do: with
LLaMA-3 and LoRA this is a prefix-style LLaMA captioner. ``ifcap`` is in ``ifcap.py``.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.captioners.captioner_spec import CaptionerSpec, write_captioner
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec, build_mapper
from gmail_kedro.models.vision_language.language_tuning import TunedLanguageModel

MAPPER_FILE = "prefix_mapper.safetensors"
IGNORED = -100
PERIOD = "."


class Captioner(torch.nn.Module):
    """ClipCap: a prefix mapper in front of a language model.

    Args:
        spec: What it consists of.
        mapper: Makes the prefix.
        language: Reads the prefix and writes the caption.

    Raises:
        ValueError: If mapper and language model differ in width.
    """

    def __init__(self, spec: CaptionerSpec, mapper: torch.nn.Module, language: TunedLanguageModel) -> None:
        super().__init__()
        if spec.mapper.width != language.width:
            raise ValueError(
                f"The mapper makes tokens of width {spec.mapper.width}; the language model "
                f"{language.record.name!r} reads {language.width}."
            )
        self.spec, self.mapper, self.language = spec, mapper, language
        self.language_model, self.tokenizer = language.model, language.tokenizer
        end = self.tokenizer.eos_token_id
        self.stop_id = end if spec.caption_end == "end_token" else self._ids(PERIOD)[-1]

    def train(self, mode: bool = True) -> "Captioner":
        """Switches dropout on or off; a language model that is not trained stays in eval mode."""
        super().train(mode)
        if self.language.record.tuning == "none":
            self.language_model.eval()
        return self

    def learned(self) -> list[torch.nn.Parameter]:
        """Returns the parameters that training changes."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def tokenize(self, captions: Sequence[str], *, max_tokens: int) -> torch.Tensor:
        """Returns token ids [N, T], each caption closed by its end and padded with -100; a longer one is cut."""
        if self.spec.caption_end == "period":
            captions = [caption.rstrip(f"{PERIOD} \n") for caption in captions]
        rows = [[*ids[: max_tokens - 1], self.stop_id] for ids in self._ids_of(captions)]
        return pad_rows(rows)

    def loss(self, embeddings: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Returns the mean next-token cross-entropy of captions [B, T] given embeddings [B, D].

        Padding (-100) is neither read as a word nor learnt.
        """
        return self.loss_after(self.mapper(embeddings), tokens, tokens)

    def loss_after(self, prefix: torch.Tensor, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the mean cross-entropy of the targets among tokens that follow a prefix.

        Args:
            prefix: Soft tokens [B, L, W].
            tokens: What is read after them, [B, T]; -100 is padding on the right.
            targets: The same where it is to be learnt, else -100.
        """
        parts = parts_by_length((tokens != IGNORED).sum(1))
        total = torch.stack([self._sum_of_losses(prefix[rows], tokens[rows], targets[rows]) for rows in parts]).sum()
        return total / (targets != IGNORED).sum()

    def _sum_of_losses(self, prefix: torch.Tensor, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the summed cross-entropy of the targets, nothing computed beyond the longest row."""
        longest = int((tokens != IGNORED).sum(1).max())
        tokens, targets = tokens[:, :longest], targets[:, :longest]
        words = self.language_model.get_input_embeddings()(tokens.clamp_min(0))
        logits = self.language_model(inputs_embeds=torch.cat([prefix.to(words.dtype), words], dim=1)).logits
        predicted = logits[:, prefix.shape[1] - 1 : -1].float()
        return F.cross_entropy(
            predicted.reshape(-1, predicted.shape[-1]), targets.reshape(-1), ignore_index=IGNORED, reduction="sum"
        )

    @torch.no_grad()
    def caption(
        self, embeddings: torch.Tensor, *, beam_size: int, max_tokens: int, origin: FeatureOrigin | None = None
    ) -> list[str]:
        """Writes one caption for each embedding of [B, D] by beam search with length-normalised scores.

        Args:
            embeddings: Of real images, [B, D].
            beam_size: Beams of the search.
            max_tokens: Longest caption, in tokens.
            origin: What made the embeddings, where it is known.

        Raises:
            ValueError: If they are not of real images on the route the captioner was trained beside, or of another
                width.
        """
        self.spec.refuse_foreign(origin)
        prefix = self.mapper(embeddings)
        mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
        return self.write_after(prefix, mask, beam_size=beam_size, max_tokens=max_tokens)

    def write_after(self, prefix: torch.Tensor, mask: torch.Tensor, *, beam_size: int, max_tokens: int) -> list[str]:
        """Writes what the language model finds most likely after each prefix.

        Args:
            prefix: Embeddings of tokens [B, N, W], padded on the left.
            mask: 1 for tokens and 0 for padding, [B, N].
            beam_size: Beams of the search.
            max_tokens: Most tokens written.
        """
        written = self.language_model.generate(
            inputs_embeds=prefix.to(self.language_model.get_input_embeddings().weight.dtype),
            attention_mask=mask,
            num_beams=beam_size,
            length_penalty=1.0,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=self.stop_id,
            pad_token_id=self.tokenizer.eos_token_id,
        )
        rows = [self._until_stop(row) for row in written.tolist()]
        return [text.strip() for text in self.tokenizer.batch_decode(rows, skip_special_tokens=True)]

    def save_pretrained(self, folder: Path) -> None:
        """Writes the mapper as safetensors, what is its own of the language model, and the configuration last."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        self.language.save_pretrained(folder)
        state = {name: value.contiguous() for name, value in self.mapper.state_dict().items()}
        save_file(state, folder / MAPPER_FILE)
        write_captioner(folder, self.spec, self.language.record)

    def _until_stop(self, row: list[int]) -> list[int]:
        """Returns what was written up to the first stop; transformers fills up with it where the padding id is 0."""
        return row[: row.index(self.stop_id) + 1] if self.stop_id in row else row

    def _ids(self, text: str) -> list[int]:
        return self._ids_of([text])[0]

    def _ids_of(self, texts: Sequence[str]) -> list[list[int]]:
        return self.tokenizer(list(texts), add_special_tokens=False).input_ids if texts else []


def parts_by_length(lengths: torch.Tensor) -> list[torch.Tensor]:
    """Returns the rows of a batch in the parts to be computed, of which each is padded to its own longest row only.

    On a CPU, where time goes with the number of tokens, that is the shorter half and the longer half (a sixth less time
    a step for the mini world's captions); on a GPU, where small kernels wait for one another, the whole batch.

    Args:
        lengths: Tokens in each row, int64 [B].
    """
    if lengths.device.type != "cpu" or len(lengths) < 2:
        return [torch.arange(len(lengths), device=lengths.device)]
    return list(lengths.argsort(stable=True).chunk(2))


def pad_rows(rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Returns token ids [N, T] of rows of any length, padded with -100 on the right."""
    tokens = torch.full((len(rows), max((len(row) for row in rows), default=0)), IGNORED)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
    return tokens


def build_captioner(
    language: TunedLanguageModel,
    mapper: MapperSpec,
    *,
    caption_end: str = "end_token",
    origin: FeatureOrigin | None = None,
    seed: int,
) -> Captioner:
    """Returns a ClipCap captioner with a fresh mapper.

    Args:
        language: A causal language model, ready to be trained.
        mapper: The mapper's kind and sizes.
        caption_end: ``end_token`` or ``period``.
        origin: What makes the embeddings it is trained on.
        seed: Seeds the mapper.

    Raises:
        ValueError: If the mapper's sizes do not go with one another or with the language model.
    """
    spec = CaptionerSpec("clipcap", mapper, caption_end, origin, {})
    return Captioner(spec, build_mapper(mapper, seed=seed), language)
