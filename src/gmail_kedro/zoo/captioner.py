"""ClipCap: a prefix mapper in front of a language model, trained together (arXiv 2111.09734, MLP variant)."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from gmail_kedro.zoo.registry import MissingWeightsError, mute_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAPPER_FILE, CONFIG_FILE = "prefix_mapper.safetensors", "captioner.json"
IGNORED = -100


class PrefixMapper(torch.nn.Module):
    """Maps one embedding to the soft tokens a language model reads before it writes.

    Args:
        embed_dim: Width D of the embeddings.
        prefix_length: Number of soft tokens L.
        width: Width W of the language model.
    """

    def __init__(self, embed_dim: int, prefix_length: int, width: int) -> None:
        super().__init__()
        hidden = width * prefix_length // 2
        self.prefix_length, self.width = prefix_length, width
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(embed_dim, hidden), torch.nn.Tanh(), torch.nn.Linear(hidden, width * prefix_length)
        )

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Maps embeddings [B, D], normalised inside, to a prefix [B, L, W]."""
        unit = F.normalize(embeddings.float(), dim=-1)
        return self.layers(unit).view(-1, self.prefix_length, self.width)


class Captioner(torch.nn.Module):
    """A prefix mapper, a language model and its tokenizer.

    Args:
        mapper: Makes the prefix.
        language_model: Reads the prefix and writes the caption.
        tokenizer: The language model's.
    """

    def __init__(
        self, mapper: PrefixMapper, language_model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase"
    ) -> None:
        super().__init__()
        self.mapper, self.language_model, self.tokenizer = mapper, language_model, tokenizer

    def tokenize(self, captions: Sequence[str], *, max_tokens: int) -> torch.Tensor:
        """Returns token ids [N, T], each caption closed by the end token and padded with -100."""
        end = self.tokenizer.eos_token_id
        rows = [[*ids[: max_tokens - 1], end] for ids in self.tokenizer(list(captions)).input_ids]
        tokens = torch.full((len(rows), max(len(row) for row in rows)), IGNORED)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = torch.tensor(row)
        return tokens

    def loss(self, embeddings: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Returns the mean next-token cross-entropy of captions [B, T] given embeddings [B, D].

        Padding (-100) is neither read as a word nor learnt.
        """
        tokens = tokens[:, : int((tokens != IGNORED).sum(1).max())]
        prefix = self.mapper(embeddings)
        words = self.language_model.get_input_embeddings()(tokens.clamp_min(0))
        logits = self.language_model(inputs_embeds=torch.cat([prefix, words], dim=1)).logits
        predicted = logits[:, prefix.shape[1] - 1 : -1].float()
        return F.cross_entropy(predicted.reshape(-1, predicted.shape[-1]), tokens.reshape(-1), ignore_index=IGNORED)

    @torch.no_grad()
    def caption(self, embeddings: torch.Tensor, *, beam_size: int, max_tokens: int) -> list[str]:
        """Writes one caption for each embedding of [B, D] by beam search with length-normalised scores."""
        prefix = self.mapper(embeddings)
        written = self.language_model.generate(
            inputs_embeds=prefix,
            attention_mask=torch.ones(prefix.shape[:2], dtype=torch.long, device=prefix.device),
            num_beams=beam_size,
            length_penalty=1.0,
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.eos_token_id,
        )
        return [text.strip() for text in self.tokenizer.batch_decode(written, skip_special_tokens=True)]

    def save_pretrained(self, folder: Path) -> None:
        """Writes the mapper as safetensors and the language model in transformers' layout."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        self.language_model.save_pretrained(folder / "language_model")
        self.tokenizer.save_pretrained(folder / "language_model")
        save_file(self.mapper.state_dict(), folder / MAPPER_FILE)
        facts: dict[str, Any] = {
            "embed_dim": self.mapper.layers[0].in_features,
            "prefix_length": self.mapper.prefix_length,
            "width": self.mapper.width,
        }
        unfinished = folder / f"{CONFIG_FILE}.unfinished"
        unfinished.write_text(json.dumps(facts, indent=2) + "\n")
        os.replace(unfinished, folder / CONFIG_FILE)


def build_captioner(
    language_model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    embed_dim: int,
    prefix_length: int,
    seed: int,
) -> Captioner:
    """Returns a captioner with a fresh mapper.

    Args:
        language_model: A causal language model.
        tokenizer: Its tokenizer.
        embed_dim: Width of the image embeddings.
        prefix_length: Number of soft tokens.
        seed: Seeds the mapper.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        mapper = PrefixMapper(embed_dim, prefix_length, language_model.get_input_embeddings().embedding_dim)
    return Captioner(mapper, language_model, tokenizer)


def load_captioner(folder: Path, *, device: torch.device) -> Captioner:
    """Returns a stored captioner in eval mode.

    Raises:
        MissingWeightsError: If the folder holds none; says how to make it.
    """
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if not (folder / CONFIG_FILE).is_file():
        raise MissingWeightsError(f"There is no captioner at {folder}. Train it: kedro run --pipeline=downstream")
    mute_transformers()
    facts = json.loads((folder / CONFIG_FILE).read_text())
    mapper = PrefixMapper(facts["embed_dim"], facts["prefix_length"], facts["width"])
    mapper.load_state_dict(load_file(folder / MAPPER_FILE))
    language_model = AutoModelForCausalLM.from_pretrained(folder / "language_model", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "language_model")
    return Captioner(mapper, language_model, tokenizer).to(device).eval()
