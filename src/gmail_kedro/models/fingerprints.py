"""What tells one model from another: its weights, and everything beside them that changes what it gives.

What was resolved is hashed, not the files it came from: a configuration that a library brings along counts as much as
one that lies beside the weights, and a file that nobody reads counts for nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.checksums import hash_tensors

# What transformers writes beside a model's settings: where it came from, and what only training or other tasks read.
NO_SETTINGS = (
    "transformers_version",
    "_name_or_path",
    "_from_model_config",
    "architectures",
    "dtype",
    "torch_dtype",
    "id2label",
    "label2id",
    "problem_type",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
)


def hash_model(
    tensors: Mapping[str, torch.Tensor], *, configuration: Any, preprocessing: Any = None, tokenizer: Any = None
) -> str:
    """Returns a sha256 over a model; equal ones give equal outputs on one machine. It reads every weight: 1 s a GB.

    Args:
        tensors: The weights by name.
        configuration: What they are built into: architecture, activations, heads. JSON values, defaults filled in.
        preprocessing: How pictures go in; JSON values.
        tokenizer: How texts go in: one of open_clip's or transformers'.
    """
    facts = [hash_tensors(tensors), configuration, preprocessing, None if tokenizer is None else _words(tokenizer)]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def hash_language_model(model: Any, tokenizer: Any) -> str:
    """Returns a sha256 over a causal language model of transformers, its generation settings and its tokenizer."""
    return hash_model(model.state_dict(), configuration=language_settings(model), tokenizer=tokenizer)


def language_settings(model: Any) -> list[dict[str, Any]]:
    """Returns what decides a transformers model's outputs beside its weights: configuration and generation settings."""
    generation = {key: value for key, value in model.generation_config.to_dict().items() if value is not None}
    return [settings_of(model.config), _without(generation)]


def settings_of(config: Any) -> dict[str, Any]:
    """Returns a transformers configuration, defaults filled in, without what changes no output."""
    return _without(config.to_dict())


def _without(facts: Any) -> Any:
    if not isinstance(facts, dict):
        return facts
    return {str(key): _without(value) for key, value in facts.items() if key not in NO_SETTINGS}


def _words(tokenizer: Any) -> dict[str, Any]:
    """Returns what decides the tokens of a text: open_clip's own treatment, and the tokenizer inside."""
    facts = {
        "class": type(tokenizer).__name__,
        "context_length": getattr(tokenizer, "context_length", None),
        "cleaning": _name(getattr(tokenizer, "clean_fn", None)),
        "reduction": _name(getattr(tokenizer, "reduction_fn", None)),
        "mode": getattr(tokenizer, "tokenizer_mode", None),
        "strips_separator": getattr(tokenizer, "strip_sep_token", None),
    }
    if hasattr(tokenizer, "bpe_ranks"):  # open_clip's own
        return facts | {"words": _hash_text(repr((tokenizer.encoder, tokenizer.bpe_ranks)))}
    inside = getattr(tokenizer, "tokenizer", tokenizer)
    names = ("padding_side", "truncation_side", "clean_up_tokenization_spaces", "chat_template")
    special = {kind: str(word) for kind, word in inside.special_tokens_map.items()}
    facts |= {name: getattr(inside, name, None) for name in names}
    return facts | {"inside": type(inside).__name__, "special": special, "words": _hash_words(inside)}


def _hash_words(tokenizer: Any) -> str:
    """Returns a sha256 over vocabulary, merges and rules of a transformers tokenizer."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        rules = json.loads(fast.to_str())
        # How it cuts and pads is set anew at every call; what stands here depends on the call before.
        return _hash_text(json.dumps({key: rules[key] for key in rules if key not in ("truncation", "padding")}))
    file = getattr(tokenizer, "vocab_file", None)  # of sentencepiece
    content = Path(file).read_bytes() if file and Path(file).is_file() else b""
    words = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(content + words.encode()).hexdigest()


def _name(function: Any) -> str | None:
    return getattr(function, "__name__", None)


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
