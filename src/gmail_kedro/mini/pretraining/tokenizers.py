"""Trains the mini tokenizers, in the file formats of CLIP, GPT-2 and SigLIP.

The first two are byte-level BPE, so any text in any language has tokens; only the merges come from the mini world.
SigLIP's is a unigram model like SentencePiece's, where an unknown letter is an unknown token.
"""

import math
import re
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmail_kedro.mini.world.caption_grammar import describe, describe_at_length, web_text
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import sample_scene

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLIP_START, CLIP_END = "<|startoftext|>", "<|endoftext|>"
GPT2_END = "<|endoftext|>"
T5_END = "</s>"
T5_SPECIALS = ("<pad>", T5_END, "<unk>")
SPACE, ALPHABET = "▁", "abcdefghijklmnopqrstuvwxyz0123456789"
RARE = -15.0


def sample_texts(*, scene_count: int = 4000, seed: int = 0) -> list[str]:
    """Returns texts of all three registers, to learn merges from."""
    rng, scans = np.random.default_rng(seed), load_scans("train")
    scenes = [sample_scene(rng, scans) for _ in range(scene_count)]
    return [
        text
        for scene in scenes
        for text in (*describe(scene, rng), web_text(scene, rng), describe_at_length(scene, rng))
    ]


def sample_canonical_texts(*, scene_count: int = 4000, seed: int = 0) -> list[str]:
    """Returns the same texts as SigLIP reads them: lower-case, without punctuation."""
    from open_clip.tokenizer import get_clean_fn

    clean = get_clean_fn("canonicalize")
    return [clean(text) for text in sample_texts(scene_count=scene_count, seed=seed)]


def train_clip_tokenizer(
    texts: Iterable[str], *, context_length: int, vocab_size: int = 1100
) -> "PreTrainedTokenizerBase":
    """Returns a CLIP tokenizer: lower-case byte-level BPE, padded with its end token.

    The end token has the highest id, as CLIP's arg-max pooling requires.

    Args:
        texts: What the merges are learnt from.
        context_length: Longest token sequence, in tokens, start and end included.
        vocab_size: Upper bound on the number of tokens, specials included.
    """
    import json

    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    words = Regex(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+")
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(words, behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=sorted(alphabet), end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    symbols = sorted(alphabet) + [f"{symbol}</w>" for symbol in sorted(alphabet)]
    symbols += [token for token in ("".join(pair) for pair in merges) if token not in set(symbols)]
    vocab = {token: index for index, token in enumerate(dict.fromkeys([*symbols, CLIP_START, CLIP_END]))}
    return CLIPTokenizer(
        vocab=vocab, merges=[tuple(pair) for pair in merges], pad_token=CLIP_END, model_max_length=context_length
    )


def train_gpt2_tokenizer(
    texts: Iterable[str], *, context_length: int, vocab_size: int = 900
) -> "PreTrainedTokenizerBase":
    """Returns a GPT-2 tokenizer (byte-level BPE).

    Args:
        texts: What the merges are learnt from.
        context_length: Longest token sequence, in tokens.
        vocab_size: Upper bound on the number of tokens, the end token included.
    """
    import json

    from tokenizers import ByteLevelBPETokenizer
    from transformers import GPT2Tokenizer

    learner = ByteLevelBPETokenizer()
    learner.train_from_iterator(texts, vocab_size=vocab_size, special_tokens=[GPT2_END], show_progress=False)
    model = json.loads(learner._tokenizer.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in model["merges"]]
    return GPT2Tokenizer(vocab=model["vocab"], merges=merges, pad_token=GPT2_END, model_max_length=context_length)


def train_siglip_tokenizer(
    texts: Iterable[str], *, context_length: int, vocab_size: int = 320
) -> "PreTrainedTokenizerBase":
    """Returns a SigLIP tokenizer: a unigram model in T5's layout, padded with its end token.

    Its pieces are the most frequent words, and letters and digits for all others; numbers are read digit by digit.

    Args:
        texts: What the words are counted in, cleaned as open_clip's ``canonicalize`` does.
        context_length: Longest token sequence, in tokens, the end token included.
        vocab_size: Upper bound on the number of pieces, specials included.
    """
    from transformers import T5Tokenizer

    pieces = _frequent_pieces(texts, alphabet=ALPHABET, vocab_size=vocab_size)
    return T5Tokenizer(vocab=pieces, extra_ids=0, pad_token=T5_END, model_max_length=context_length)


def train_t5_tokenizer(
    texts: Iterable[str], *, context_length: int, vocab_size: int = 320
) -> "PreTrainedTokenizerBase":
    """Returns a T5 tokenizer: a unigram model that keeps capitals and punctuation, with a padding token of its own.

    Args:
        texts: What the words are counted in.
        context_length: Longest token sequence, in tokens, the end token included.
        vocab_size: Upper bound on the number of pieces, specials included.
    """
    from transformers import T5Tokenizer

    pieces = _frequent_pieces(texts, alphabet=string.printable.split()[0], vocab_size=vocab_size)
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=context_length)


def _frequent_pieces(texts: Iterable[str], *, alphabet: str, vocab_size: int) -> list[tuple[str, float]]:
    """Returns the specials, the most frequent words and all single symbols, with log probabilities."""
    counts = Counter(word for text in texts for word in re.findall(r"[^\W\d_]+", text))
    symbols = [SPACE, *alphabet, *(f"{SPACE}{digit}" for digit in alphabet if digit.isdigit())]
    words = sorted(counts, key=lambda word: (-counts[word], word))[: vocab_size - len(symbols) - len(T5_SPECIALS)]
    pieces = [(special, 0.0) for special in T5_SPECIALS]
    pieces += [(f"{SPACE}{word}", math.log(counts[word] / counts.total())) for word in words]
    return pieces + [(symbol, RARE) for symbol in symbols if symbol not in {piece for piece, _ in pieces}]


def load_siglip_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Returns the SigLIP tokenizer stored in a folder."""
    from transformers import T5Tokenizer

    return T5Tokenizer.from_pretrained(folder, trust_remote_code=False)


def load_clip_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Returns the CLIP tokenizer stored in a folder."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, trust_remote_code=False)


def load_gpt2_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Returns the GPT-2 tokenizer stored in a folder."""
    from transformers import GPT2Tokenizer

    return GPT2Tokenizer.from_pretrained(folder, trust_remote_code=False)
