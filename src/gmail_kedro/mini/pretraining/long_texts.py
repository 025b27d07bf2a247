"""Texts the mini Long-CLIP learns from, as token ids: web texts, and long captions in any order of sentences."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.mini.world.caption_grammar import describe_at_length, shuffle_sentences, web_text
from gmail_kedro.mini.world.scenes import Scene

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WEB_TOKENS, LONG_TOKENS = 28, 112
TEXTS_PER_SCENE = 4


def tokenize_web_texts(scenes: Sequence[Scene], tokenizer: "PreTrainedTokenizerBase", *, seed: int) -> torch.Tensor:
    """Returns ids [N, 4, 28] of web texts."""
    rng = stream_rng(seed, Stream.WEB_TEXTS)
    texts = [web_text(scene, rng) for scene in scenes for _ in range(TEXTS_PER_SCENE)]
    return _pad(tokenizer, texts, WEB_TOKENS).view(len(scenes), TEXTS_PER_SCENE, WEB_TOKENS)


def tokenize_long_captions(scenes: Sequence[Scene], tokenizer: "PreTrainedTokenizerBase", *, seed: int) -> torch.Tensor:
    """Returns ids [N, 112] of long captions, half of them with their sentences in another order."""
    rng = stream_rng(seed, Stream.LONG_CAPTIONS)
    texts = [describe_at_length(scene, rng) for scene in scenes]
    texts = [shuffle_sentences(text, rng) if rng.random() < 0.5 else text for text in texts]
    return _pad(tokenizer, texts, LONG_TOKENS)


def _pad(tokenizer: "PreTrainedTokenizerBase", texts: list[str], length: int) -> torch.Tensor:
    return tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
