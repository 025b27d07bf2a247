"""Trains the tokenizers of the mini LLaMA-3 and of the mini LLaVA's language model, in their real formats.

Both are BPE with few merges; unlike the real ones they read every number digit by digit, as handwriting is read.
"""

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.mini.pretraining.dialogues import draw_dialogue
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import sample_scene
from gmail_kedro.models.vision_language.chat import IMAGE, LLAMA_3_END, TEMPLATES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LLAMA_3_START, LLAMA_3_TEXT_END = "<|begin_of_text|>", "<|end_of_text|>"
LLAMA_3_HEADER = ("<|start_header_id|>", "<|end_header_id|>")
LLAMA_2_SPECIALS = ("<unk>", "<s>", "</s>")
PAD = "<pad>"
ROLES = ("USER: ", "ASSISTANT: ", "user", "assistant")
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def sample_dialogues(*, scene_count: int = 600, seed: int = 0) -> list[str]:
    """Returns the texts that the merges are learnt from: prompts and answers about training scenes."""
    rng, scans = stream_rng(seed, Stream.TOKENIZER_TEXTS), load_scans("train")
    turns = [turn for _ in range(scene_count) for turn in draw_dialogue(sample_scene(rng, scans), rng, turn_count=4)]
    return [text for turn in turns for text in (turn.prompt, turn.answer, *ROLES)]


def train_llama_3_tokenizer(texts: Iterable[str], *, vocab_size: int = 520) -> "PreTrainedTokenizerBase":
    """Returns a tokenizer as LLaMA-3 has it: byte-level BPE, header and turn tokens, and the chat template.

    Args:
        texts: What the merges are learnt from.
        vocab_size: Number of tokens before the special ones.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    learner.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=learner,
        bos_token=LLAMA_3_START,
        eos_token=LLAMA_3_TEXT_END,
        additional_special_tokens=[*LLAMA_3_HEADER, LLAMA_3_END],
        clean_up_tokenization_spaces=False,
        chat_template=TEMPLATES["llama_3"],
    )


def train_vicuna_tokenizer(texts: Iterable[str], *, vocab_size: int = 540) -> "PreTrainedTokenizerBase":
    """Returns a tokenizer as LLaVA-1.5 has it: LLaMA-2's BPE with byte fallback, and the tokens ``<image>``, ``<pad>``.

    Args:
        texts: What the merges are learnt from.
        vocab_size: Number of tokens before those two.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import LlamaTokenizer

    learner = Tokenizer(models.BPE(byte_fallback=True, unk_token=LLAMA_2_SPECIALS[0]))
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="always"),
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Split("\n", behavior="isolated"),
        ]
    )
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(fallback), special_tokens=list(LLAMA_2_SPECIALS), show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    model = json.loads(learner.to_str())["model"]
    learnt = sorted(model["vocab"], key=model["vocab"].__getitem__)[len(LLAMA_2_SPECIALS) :]
    vocab = {token: index for index, token in enumerate([*LLAMA_2_SPECIALS, *fallback, *learnt])}
    tokenizer = LlamaTokenizer(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]], pad_token=PAD)
    tokenizer.add_special_tokens({"additional_special_tokens": [IMAGE]})
    return tokenizer
