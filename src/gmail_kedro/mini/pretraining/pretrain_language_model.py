"""Trains the mini GPT-2 on the mini world's texts, without any image."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.world.caption_grammar import describe, web_text
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import sample_scene

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel, PreTrainedTokenizerBase

MAX_POSITIONS = 128
IGNORED = -100


def pretrain_language_model(
    tokenizer: "PreTrainedTokenizerBase", *, steps: int, scene_count: int, batch_size: int, seed: int
) -> "GPT2LMHeadModel":
    """Returns a small GPT-2 that knows captions and web texts and how they end."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=MAX_POSITIONS,
        n_embd=128,
        n_layer=4,
        n_head=4,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )
    model = GPT2LMHeadModel(config).train()
    tokens = _tokenize_texts(tokenizer, scene_count=scene_count, seed=seed)
    optimizer = build_adamw(model.parameters(), learning_rate=1e-3, weight_decay=0.01)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=50)

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = stream_rng(seed, Stream.LANGUAGE_MODEL, index).integers(0, len(tokens), batch_size)
        batch = tokens[rows]
        batch = batch[:, : int((batch != IGNORED).sum(1).max())]
        return {"loss": model(input_ids=batch.clamp_min(0), labels=batch).loss}

    run_training(step, optimizer, schedule, name="gpt2", steps=steps)
    return model.eval()


@dataclass(frozen=True)
class PackagedLanguageModel:
    """A trained language model with its tokenizer.

    Attributes:
        model: A transformers causal language model.
        tokenizer: Goes into the same folder.
    """

    model: "GPT2LMHeadModel"
    tokenizer: "PreTrainedTokenizerBase"

    def save_pretrained(self, folder: Path) -> None:
        """Writes transformers' layout: config, safetensors, tokenizer."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _tokenize_texts(tokenizer: "PreTrainedTokenizerBase", *, scene_count: int, seed: int) -> torch.Tensor:
    """Returns token ids [N, T] of captions and web texts between two end tokens, padded with -100."""
    rng, scans = stream_rng(seed, Stream.LANGUAGE_MODEL_TEXTS), load_scans("train")
    texts: list[str] = []
    for _ in range(scene_count):
        scene = sample_scene(rng, scans)
        texts += [*describe(scene, rng)[:2], web_text(scene, rng)]
    end = tokenizer.eos_token_id
    rows = [[end, *ids, end] for ids in tokenizer(texts).input_ids]
    tokens = torch.full((len(rows), max(len(row) for row in rows)), IGNORED)
    for index, row in enumerate(rows):
        tokens[index, : len(row)] = torch.tensor(row)
    return tokens
