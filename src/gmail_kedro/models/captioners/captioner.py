"""ClipCap (arXiv 2111.09734): an image embedding becomes a prefix of soft tokens, and a language model goes on from it.

The prefix stands where token embeddings would, so any causal language model will do, trained whole, with LoRA or
frozen: with LLaMA-3 and LoRA this is a prefix-style LLaMA captioner. Trained on embeddings of generated images it
captions real ones, as far as the alignment has brought both to one place; hence a captioner knows what made the
embeddings it was trained on (``FeatureOrigin``) and refuses those of another encoder, route or student.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from gmail_kedro.interfaces import FeatureOrigin
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec, build_mapper
from gmail_kedro.models.fingerprints import finish_folder, open_folder, save_weights
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX, pad_rows
from gmail_kedro.models.vision_language.language_models import LanguageModelRecord, TunedLanguageModel
from gmail_kedro.models.weight_sources import MissingWeightsError

CONFIG_FILE, MAPPER_FILE = "captioner.json", "prefix_mapper.safetensors"
REMEDY = "Train it again: kedro run --pipeline=downstream"
PERIOD = "."


@dataclass(frozen=True)
class CaptionerSpec:
    """What a captioner consists of, beside its language model, as its folder says it."""

    kind: str  # a key of CAPTIONERS
    mapper: MapperSpec
    caption_end: str  # what closes a caption: end_token, or period as in the published ClipCap
    origin: FeatureOrigin | None  # what made the embeddings it was trained on; None where nobody knows
    details: dict[str, Any]  # what else its kind needs; JSON values only

    def refuse_foreign(self, origin: FeatureOrigin | None) -> None:
        """Refuses embeddings that the captioner was not trained for; what one side does not know is not compared.

        Raises:
            ValueError: If they are not of real images through their own route, or made by another encoder, student
                or training-free map than the one that stood beside its training; names the difference.
        """
        if origin is None:
            return
        if origin.sides != ("real",):
            raise ValueError(
                f"Captions are written for real images on the real route. Got features of {list(origin.sides)} images."
            )
        trained = self.origin
        if trained is None:
            return
        for part in ("encoder", "real_route", "feature_map"):
            before, now = getattr(trained, part), getattr(origin, part)
            if before is not None and now is not None and before != now:
                raise ValueError(
                    f"The captioner was trained beside another {part.replace('_', ' ')} ({before[:40]}) than the one "
                    f"these features of real images come from ({now[:40]}). {REMEDY}"
                )


class Captioner(torch.nn.Module):
    """ClipCap: a prefix mapper in front of a language model.

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
        self.stop_id = end if spec.caption_end == "end_token" else self._token_ids([PERIOD])[0][-1]

    @classmethod
    def from_folder(
        cls, spec: CaptionerSpec, mapper: torch.nn.Module, language: TunedLanguageModel, folder: Path
    ) -> "Captioner":
        """Returns a stored captioner; a kind that stores more than mapper and language model reads it here."""
        return cls(spec, mapper, language)

    def train(self, mode: bool = True) -> "Captioner":
        """Switches dropout on or off; a language model that is not trained stays in eval mode."""
        super().train(mode)
        if self.language.record.tuning == "none":
            self.language_model.eval()
        return self

    def tokenize(self, captions: Sequence[str], *, max_tokens: int) -> torch.Tensor:
        """Returns token ids [N, T], each caption closed by its end and padded with -100; a longer one is cut."""
        if self.spec.caption_end == "period":
            captions = [caption.rstrip(f"{PERIOD} \n") for caption in captions]
        # Cut before it is closed: a caption without an end would teach the language model never to stop.
        return pad_rows([[*ids[: max_tokens - 1], self.stop_id] for ids in self._token_ids(captions)])

    def loss(self, embeddings: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Returns the mean next-token cross-entropy of captions [B, T] given embeddings [B, D].

        Padding (-100) is neither read as a token nor learnt.
        """
        return self.loss_after(self.mapper(embeddings), tokens, tokens)

    def loss_after(self, prefix: torch.Tensor, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Returns the mean cross-entropy of the targets among tokens that follow a prefix.

        Args:
            prefix: Soft tokens [B, L, W].
            tokens: What is read after them, [B, T]; -100 is padding on the right.
            targets: The same where it is to be learnt, else -100.
        """
        parts = parts_by_length((tokens != IGNORE_INDEX).sum(1))
        total = torch.stack([self._sum_of_losses(prefix[rows], tokens[rows], targets[rows]) for rows in parts]).sum()
        return total / (targets != IGNORE_INDEX).sum()

    def _sum_of_losses(self, prefix: torch.Tensor, tokens: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        longest = int((tokens != IGNORE_INDEX).sum(1).max())
        tokens, targets = tokens[:, :longest], targets[:, :longest]
        # Padding is on the right, where causal attention does not see it: any token will do, and no mask is needed.
        embedded = self.language_model.get_input_embeddings()(tokens.clamp_min(0))  # [B, T, W]
        inputs = torch.cat([prefix.to(embedded.dtype), embedded], dim=1)  # [B, L + T, W]
        logits = self.language_model(inputs_embeds=inputs).logits  # [B, L + T, V]
        # The last soft token predicts the first token of the caption; what follows the caption is nothing.
        predicted = logits[:, prefix.shape[1] - 1 : -1].float()  # [B, T, V]
        return F.cross_entropy(
            predicted.reshape(-1, predicted.shape[-1]), targets.reshape(-1), ignore_index=IGNORE_INDEX, reduction="sum"
        )

    @torch.no_grad()
    def caption(
        self, embeddings: torch.Tensor, *, beam_size: int, max_tokens: int, origin: FeatureOrigin | None = None
    ) -> list[str]:
        """Writes one caption for each embedding by beam search with length-normalised scores.

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
        prefix = self.mapper(embeddings)  # [B, L, W]
        mask = torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device)
        return self.generate_after(prefix, mask, beam_size=beam_size, max_tokens=max_tokens)

    def generate_after(self, prefix: torch.Tensor, mask: torch.Tensor, *, beam_size: int, max_tokens: int) -> list[str]:
        """Writes what the language model finds most likely after each prefix.

        Args:
            prefix: Embeddings of tokens [B, N, W], padded on the left.
            mask: 1 for tokens and 0 for padding, [B, N].
            beam_size: Beams of the search.
            max_tokens: Most tokens written.
        """
        written = self.language_model.generate(  # [B, T], the prefix not among them: it has no token ids
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
        folder.mkdir(parents=True, exist_ok=True)
        self.language.save_pretrained(folder)
        save_weights(folder / MAPPER_FILE, self.mapper.state_dict())
        finish_folder(folder, CONFIG_FILE, asdict(self.spec) | {"language_model": asdict(self.language.record)})

    def _until_stop(self, row: list[int]) -> list[int]:
        """Returns what was written up to the first stop; transformers fills up with it where the padding id is 0."""
        return row[: row.index(self.stop_id) + 1] if self.stop_id in row else row

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        # Without the split, "<|endoftext|>" inside a person's caption would be the token that ends every caption.
        return self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True).input_ids


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


def build_captioner(
    language: TunedLanguageModel,
    mapper: MapperSpec,
    *,
    caption_end: str = "end_token",
    origin: FeatureOrigin | None = None,
    seed: int,
) -> Captioner:
    """Returns a ClipCap captioner with a fresh mapper, drawn from the seed, and a language model ready to be trained.

    Raises:
        ValueError: If the mapper's sizes do not go with one another or with the language model.
    """
    spec = CaptionerSpec("clipcap", mapper, caption_end, origin, {})
    return Captioner(spec, build_mapper(mapper, seed=seed), language)


def read_captioner(folder: Path) -> tuple[CaptionerSpec, LanguageModelRecord]:
    """Returns what a stored captioner consists of; loads no weights.

    Raises:
        MissingWeightsError: If the folder holds none, lacks files, or is of another layout; says how to make it.
        DamagedFileError: If a file is not what was stored.
    """
    facts, _ = open_folder(folder, CONFIG_FILE, what="captioner", remedy=REMEDY)
    try:
        record = LanguageModelRecord(**facts.pop("language_model"))
        origin = facts.pop("origin")
        known = None if origin is None else FeatureOrigin(**{**origin, "sides": tuple(origin["sides"])})
        return CaptionerSpec(mapper=MapperSpec(**facts.pop("mapper")), origin=known, **facts), record
    except (KeyError, TypeError) as error:
        raise MissingWeightsError(
            f"The captioner at {folder} was stored in another layout ({CONFIG_FILE}: {error}). {REMEDY}"
        ) from error
