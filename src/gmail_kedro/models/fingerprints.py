"""What a model is made of, as one hash: of a loaded model's weights and settings, or of the files in its folder.

The last part writes and opens the folders of models that are trained here: a recipe, files of weights, and the
checksums of them all. The order of writing is the promise: weights come first, the recipe after them and the checksums
last. A folder with a recipe has all its weights, and what a killed process leaves has no recipe and is refused.

Features are stored under the fingerprint of the encoder that made them, and a student names the teacher it was tuned
from by it. So ``hash_model`` hashes what was *resolved*, not the files it came from: a configuration that a library
brings along counts as much as one that lies beside the weights, and a file that nobody reads counts for nothing. A
change to what is hashed here makes every stored feature and every student of a user stale.

``hash_files`` is for models too large to be read tensor by tensor at every start, and for folders that are held
against their checksums. It remembers the hashes of large files, so that 24 GB are not read again each time.
"""

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import DamagedFileError, atomic_write, hash_file, hash_tensors

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
HASHED_SUFFIXES = (".safetensors", ".bin", ".json", ".txt", ".model", ".jinja")
LARGE_BYTES = 64 * 2**20
CHECKSUMS_FILE = "files.json"

logger = logging.getLogger(__name__)


def hash_model(
    tensors: Mapping[str, torch.Tensor], *, configuration: Any, preprocessing: Any = None, tokenizer: Any = None
) -> str:
    """Returns a sha256 over a model; equal ones give equal outputs on one machine. It reads every weight: 1 s a GB.

    Args:
        tensors: The weights by name.
        configuration: What they are built into: architecture, activations, heads. JSON values, defaults filled in.
        preprocessing: How images go in; JSON values.
        tokenizer: How texts go in: one of open_clip's or transformers'.
    """
    settings = None if tokenizer is None else _tokenizer_settings(tokenizer)
    return _hash_text(json.dumps([hash_tensors(tensors), configuration, preprocessing, settings], sort_keys=True))


def hash_language_model(model: Any, tokenizer: Any) -> str:
    """Returns a sha256 over a causal language model of transformers, its generation settings and its tokenizer."""
    return hash_model(model.state_dict(), configuration=language_settings(model), tokenizer=tokenizer)


def language_settings(model: Any) -> list[dict[str, Any]]:
    """Returns what decides a transformers model's outputs beside its weights: configuration and generation settings."""
    generation = {key: value for key, value in model.generation_config.to_dict().items() if value is not None}
    return [settings_of(model.config), _keep_settings(generation)]


def settings_of(config: Any) -> dict[str, Any]:
    """Returns a transformers configuration, defaults filled in, without what changes no output."""
    return _keep_settings(config.to_dict())


def _keep_settings(facts: Any) -> Any:
    if not isinstance(facts, dict):
        return facts
    return {str(key): _keep_settings(value) for key, value in facts.items() if key not in NO_SETTINGS}


def _tokenizer_settings(tokenizer: Any) -> dict[str, Any]:
    """Returns what decides the tokens of a text: open_clip's own treatment, and the tokenizer inside."""
    facts = {
        "class": type(tokenizer).__name__,
        "context_length": getattr(tokenizer, "context_length", None),
        "cleaning": _name(getattr(tokenizer, "clean_fn", None)),
        "reduction": _name(getattr(tokenizer, "reduction_fn", None)),
        "mode": getattr(tokenizer, "tokenizer_mode", None),
        "strips_separator": getattr(tokenizer, "strip_sep_token", None),
    }
    if hasattr(tokenizer, "bpe_ranks"):  # open_clip's own, with no tokenizer of transformers inside
        return facts | {"words": _hash_text(repr((tokenizer.encoder, tokenizer.bpe_ranks)))}
    inside = getattr(tokenizer, "tokenizer", tokenizer)
    names = ("padding_side", "truncation_side", "clean_up_tokenization_spaces", "chat_template")
    special = {kind: str(word) for kind, word in inside.special_tokens_map.items()}
    facts |= {name: getattr(inside, name, None) for name in names}
    return facts | {"inside": type(inside).__name__, "special": special, "words": _hash_vocabulary(inside)}


def _hash_vocabulary(tokenizer: Any) -> str:
    """Returns a sha256 over vocabulary, merges and rules of a transformers tokenizer."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is not None:
        rules = json.loads(fast.to_str())
        # How it cuts and pads is set anew at every call; what stands here depends on the call before.
        return _hash_text(json.dumps({key: rules[key] for key in rules if key not in ("truncation", "padding")}))
    file = getattr(tokenizer, "vocab_file", None)  # of sentencepiece, whose rules are in this file and nowhere else
    content = Path(file).read_bytes() if file and Path(file).is_file() else b""
    words = json.dumps(tokenizer.get_vocab(), sort_keys=True)
    return hashlib.sha256(content + words.encode()).hexdigest()


def _name(function: Any) -> str | None:
    return getattr(function, "__name__", None)


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def hash_files(folder: Path, *, from_memory: bool = True) -> dict[str, str]:
    """Returns the sha256 of every weight and configuration file of a folder, by its path inside the folder.

    Links are followed, those to folders too. The hash of a file of 64 MiB or more is remembered under the user's cache
    folder and used again while the file's path, size and times of change are the same; whoever can set those can fool
    it. Without ``from_memory`` every byte is read: about a second for a gigabyte.
    """
    memory = _read_memory() if from_memory else {}
    hashes, learnt = {}, {}
    for path in sorted(_hashed_files(folder)):
        key = _identity(path) if path.stat().st_size >= LARGE_BYTES else ""
        digest = memory.get(key) or hash_file(path)
        if key and key not in memory:
            learnt[key] = digest
        hashes[path.relative_to(folder).as_posix()] = digest
    if learnt:
        _remember(learnt)
    return hashes


def combine_hashes(hashes: Mapping[str, str]) -> str:
    """Returns one sha256 over the names and hashes of files."""
    return _hash_text("".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes)))


def memory_file() -> Path:
    """Returns where the hashes of large files are remembered."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "gmail_kedro" / "file_hashes.json"


def _hashed_files(folder: Path, above: tuple[Path, ...] = ()) -> Iterator[Path]:
    """Yields the hashed files below a folder; one that contains itself through a link is entered once."""
    real = folder.resolve()
    if real in above:
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _hashed_files(path, (*above, real))
        elif path.suffix.lower() in HASHED_SUFFIXES and path.is_file():
            yield path


def _identity(path: Path) -> str:
    facts = path.stat()
    # The time of the last change of the file's entry too: copying tools set the other one back.
    return f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns} {facts.st_ctime_ns}"


def _read_memory() -> dict[str, str]:
    try:
        memory = json.loads(memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):  # absent or damaged: everything is hashed anew
        return {}
    return memory if isinstance(memory, dict) else {}


def _remember(learnt: dict[str, str]) -> None:
    """Adds hashes to the memory; when two processes write at once, one forgets and hashes again next time."""
    try:
        with atomic_write(memory_file()) as partial:
            partial.write_text(json.dumps(_read_memory() | learnt, indent=1), encoding="utf-8")
    except OSError:  # a read-only home: the next start hashes again
        return


def save_weights(path: Path, state: Mapping[str, torch.Tensor]) -> None:
    """Writes a module's state as safetensors, which takes no tensor that is a view of another's memory."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in state.items()}, path)


def finish_folder(folder: Path, recipe_file: str, facts: Mapping[str, Any]) -> None:
    """Writes a model's recipe (JSON values) and, last of all, the checksums of the files that its folder holds."""
    _write_json(folder / recipe_file, facts)
    (folder / CHECKSUMS_FILE).unlink(missing_ok=True)  # an older one would be hashed with the rest
    _write_json(folder / CHECKSUMS_FILE, hash_files(folder, from_memory=False))


def open_folder(folder: Path, recipe_file: str, *, what: str, remedy: str) -> tuple[dict[str, Any], str]:
    """Returns a model's recipe, and one hash over its files, which are held against their checksums first.

    Args:
        folder: As ``finish_folder`` left it.
        recipe_file: The recipe's name.
        what: What the folder should hold, for the message.
        remedy: What the reader is advised to do; a sentence.

    Raises:
        MissingWeightsError: If there is no recipe, or a file is not there.
        DamagedFileError: If one is not what was written.
    """
    if not (folder / recipe_file).is_file():
        raise MissingWeightsError(f"There is no {what} at {folder} (expected {recipe_file}). {remedy}")
    fingerprint = check_folder(folder, remedy=remedy)
    return _read_json(folder / recipe_file, remedy=remedy), fingerprint


def check_folder(folder: Path, *, remedy: str) -> str:
    """Compares a model's files with the checksums they were stored with, and returns one hash over them.

    Every byte is read: about a second for each gigabyte. A folder without checksums, which an earlier version or
    another tool wrote, is taken as it is, and that is logged. ``remedy`` is a sentence for the message.

    Raises:
        MissingWeightsError: If a file is not there.
        DamagedFileError: If one is not what was written.
    """
    found = hash_files(folder, from_memory=False)
    own = found.pop(CHECKSUMS_FILE, None)
    if own is None:
        logger.warning("%s has no %s, so its files are not checked for damage.", folder, CHECKSUMS_FILE)
        return combine_hashes(found)
    stored = _read_json(folder / CHECKSUMS_FILE, remedy=remedy)
    # Files that are not named, such as a README written later, are nobody's weights and are passed over.
    for name, expected in stored.items():
        if name not in found:
            raise MissingWeightsError(f"There is no {name} in {folder}, and {CHECKSUMS_FILE} names one. {remedy}")
        if found[name] != expected:
            raise DamagedFileError(
                f"The file {folder / name} is damaged, or was changed after it was stored: its sha256 is "
                f"{found[name][:12]}, and {CHECKSUMS_FILE} says {str(expected)[:12]}. {remedy}"
            )
    return combine_hashes(stored)


def _read_json(path: Path, *, remedy: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DamagedFileError(f"The file {path} is damaged: it is no JSON ({error}). {remedy}") from error


def _write_json(path: Path, facts: Any) -> None:
    with atomic_write(path) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
