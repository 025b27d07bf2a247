"""Language models by name, and what is tuned in a captioner's: all of it, LoRA factors through PEFT, or nothing.

A captioner's language model that is trained whole is stored whole. Otherwise only what was trained is stored, with the
name and the hash of the weights underneath: eight billion frozen parameters are not copied into every run. LoRA is that
of ``student/adapters.py``, the same for towers and language models.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmail_kedro.models.fingerprints import hash_language_model
from gmail_kedro.models.strict_loading import Sizes, language_sizes, load_whole, refuse_other_sizes
from gmail_kedro.models.student.adapters import WEIGHTS_FILE, TuningSpec, load_adapter, save_adapter, tune_tower
from gmail_kedro.models.weight_sources import (
    MODEL_FILES,
    MissingWeightsError,
    find_folder_flaw,
    local_folder,
    look_up,
    mute_transformers,
    packaged_weights,
    reason_of,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GPT2 = {"model_type": "gpt2", "hidden_size": 768, "num_hidden_layers": 12, "intermediate_size": None}
LLAMA_3_8B = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336}
VICUNA_7B = LLAMA_3_8B | {"intermediate_size": 11008}  # LLaMA 2's
VICUNA_13B = {"model_type": "llama", "hidden_size": 5120, "num_hidden_layers": 40, "intermediate_size": 13824}

FOLDER = "language_model"
SETTING = "downstream.lora.targets, or null for the model's own"
REMEDY = "Train it again: kedro run --pipeline=downstream"


@dataclass(frozen=True)
class LanguageModelSpec:
    """Where a language model comes from, and what is known of it by its name."""

    packaged: str = ""  # folder of mini weights inside the package
    hub_id: str = ""
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")  # modules that get LoRA factors unless a configuration says
    frozen_dtype: str = "float32"  # of weights that are not trained: float32 or bfloat16
    sizes: Sizes | None = None  # what its name promises


# An entry needs `packaged` or `hub_id` in transformers' layout of a causal language model, the names of its attention's
# linear modules for LoRA, and `sizes`, so that another model under its name is refused. A frozen
# model of billions of parameters is held in bfloat16; what is trained is in float32 whatever it says.
LANGUAGE_MODELS = {
    "mini_gpt2": LanguageModelSpec(packaged="gpt2", lora_targets=("c_attn",)),
    "mini_llama": LanguageModelSpec(packaged="llama"),
    "gpt2": LanguageModelSpec(hub_id="openai-community/gpt2", lora_targets=("c_attn",), sizes=GPT2),
    "llama_3_8b": LanguageModelSpec(hub_id="meta-llama/Meta-Llama-3-8B", frozen_dtype="bfloat16", sizes=LLAMA_3_8B),
    "llama_3_8b_instruct": LanguageModelSpec(
        hub_id="meta-llama/Meta-Llama-3-8B-Instruct", frozen_dtype="bfloat16", sizes=LLAMA_3_8B
    ),
    "vicuna_7b": LanguageModelSpec(hub_id="lmsys/vicuna-7b-v1.5", frozen_dtype="bfloat16", sizes=VICUNA_7B),
    "vicuna_13b": LanguageModelSpec(hub_id="lmsys/vicuna-13b-v1.5", frozen_dtype="bfloat16", sizes=VICUNA_13B),
}


def build_language_model(
    name: str, path: str | None, *, dtype: str = "float32"
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Returns a causal language model and its tokenizer; padding is the end token.

    Args:
        name: A key of ``LANGUAGE_MODELS``.
        path: A local folder in transformers' layout, or None for the packaged or published weights.
        dtype: Of the weights: ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        UnknownModelError: If the name is unknown.
        MissingWeightsError: If the weights are not there or do not fit.
    """
    spec = look_up("language model", name, LANGUAGE_MODELS)
    source = source_of("language model", name, path, spec)
    remedy = "Download them and set downstream.language_model_path to their folder."
    model, tokenizer = _load(name, source, dtype=dtype, promised=spec.sizes or {}, remedy=remedy)
    if tokenizer.pad_token is None:  # GPT-2 and LLaMA-3 have none; padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def source_of(kind: str, name: str, path: str | None, spec: Any) -> str:
    """Returns where a model's weights are: the given folder, the one inside the package, or the hub repository."""
    if path is not None:
        return str(local_folder(kind, name, path))
    return str(packaged_weights(spec.packaged)) if spec.packaged else spec.hub_id


def _load(
    name: str, source: str | Path, *, dtype: str, promised: Sizes, remedy: str
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Returns a causal language model and its tokenizer from a folder or the hub."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.activations import NewGELUActivation

    mute_transformers()
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        refuse_other_sizes(name, source, found=language_sizes(config), promised=promised)
        model = load_whole(AutoModelForCausalLM, name, source, config=config, dtype=getattr(torch, dtype))
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except MissingWeightsError:
        raise
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of the language model {name!r} could not be loaded from {source}: {reason_of(error)}. "
            f"{remedy}"
        ) from error
    # GPT-2's GELU is eight operations on whole tensors; torch's own kernel of the same function takes a fifth off a
    # training step of the mini GPT-2.
    for path, module in list(model.named_modules()):
        if isinstance(module, NewGELUActivation):
            model.set_submodule(path, torch.nn.GELU(approximate="tanh"))
    return model, tokenizer


def find_language_model_flaw(name: str, place: Path) -> str:
    """Returns what keeps the named language model from being loaded from a folder, or nothing; no weights are read."""
    from transformers import AutoConfig

    spec = look_up("language model", name, LANGUAGE_MODELS)
    if flaw := find_folder_flaw(place, MODEL_FILES):
        return flaw
    try:
        config = AutoConfig.from_pretrained(place, trust_remote_code=False, local_files_only=True)
        refuse_other_sizes(name, place, found=language_sizes(config), promised=spec.sizes or {})
    except Exception as error:
        return reason_of(error)
    return ""


@dataclass(frozen=True)
class LanguageModelRecord:
    """Which language model a captioner has, as its configuration file says it."""

    name: str
    path: str | None  # local folder of the untouched weights, or None for the packaged or published ones
    tuning: str  # full, lora or none
    fingerprint: str  # hash of the untouched model and its tokenizer; empty where the tuned one is stored whole


@dataclass(frozen=True)
class TunedLanguageModel:
    """A language model with its tokenizer, and which of its weights are a captioner's own.

    Attributes:
        model: A transformers causal language model, or PEFT's wrapper around one.
        tokenizer: Its tokenizer.
        record: Which model it is.
    """

    model: Any
    tokenizer: "PreTrainedTokenizerBase"
    record: LanguageModelRecord

    @property
    def width(self) -> int:
        """Width W of its token embeddings."""
        return int(self.model.get_input_embeddings().embedding_dim)

    @property
    def position_count(self) -> int:
        """Longest sequence it reads, in tokens."""
        return int(self.model.config.max_position_embeddings)

    def save_pretrained(self, folder: Path) -> None:
        """Writes the whole model and its tokenizer, PEFT's two files, or nothing, as the tuning says."""
        if self.record.tuning == "full":
            self.model.save_pretrained(folder / FOLDER)
            self.tokenizer.save_pretrained(folder / FOLDER)
        elif self.record.tuning == "lora":
            save_adapter(self.model, folder / FOLDER)


def prepare_language_model(name: str, path: str | None, tuning: TuningSpec, *, seed: int) -> TunedLanguageModel:
    """Returns a language model ready to be trained as the tuning says; at first it computes what it did before.

    Args:
        name: A key of ``LANGUAGE_MODELS``.
        path: A local folder, or None for the packaged or published weights.
        tuning: ``full``, ``lora`` or ``none``; without targets the model's own ones are taken.
        seed: Seeds the first LoRA factors.

    Raises:
        UnknownModelError: If the name is unknown.
        MissingWeightsError: If the weights are not there.
        ValueError: If a LoRA target does not exist.
    """
    if tuning.kind == "full":
        model, tokenizer = build_language_model(name, path)
        return TunedLanguageModel(model, tokenizer, LanguageModelRecord(name, path, "full", ""))
    model, tokenizer = _build_frozen(name, path)
    record = LanguageModelRecord(name, path, tuning.kind, hash_language_model(model, tokenizer))
    tuning = replace(tuning, targets=tuning.targets or LANGUAGE_MODELS[name].lora_targets)
    tuned = tune_tower(model, tuning, owner=name, seed=seed, setting=SETTING)
    return TunedLanguageModel(tuned, tokenizer, record)


def load_language_model(folder: Path, record: LanguageModelRecord) -> TunedLanguageModel:
    """Returns the language model of a stored captioner, frozen.

    Raises:
        MissingWeightsError: If something is not there or does not fit, or the weights underneath are not those it was
            trained on.
    """
    own = folder / FOLDER
    if record.tuning == "full":
        model, tokenizer = _load(record.name, own, dtype="float32", promised={}, remedy=REMEDY)
        return TunedLanguageModel(model.requires_grad_(False), tokenizer, record)
    model, tokenizer = _build_frozen(record.name, record.path)
    found = hash_language_model(model, tokenizer)
    if found != record.fingerprint:
        raise MissingWeightsError(
            f"The captioner in {folder} was trained on another {record.name!r} (weights, configuration and tokenizer "
            f"with the hash {record.fingerprint[:12]}) than the one that is there now ({found[:12]}). Put it back, or "
            "train again."
        )
    if record.tuning == "lora":
        if not (own / WEIGHTS_FILE).is_file():
            raise MissingWeightsError(f"There is no {WEIGHTS_FILE} in {own}. {REMEDY}")
        # Not merged: the factors are float32, and a sum in bfloat16 would round part of what was learnt away.
        model = load_adapter(model, own, owner=record.name)
    return TunedLanguageModel(model.requires_grad_(False), tokenizer, record)


def _build_frozen(name: str, path: str | None) -> tuple[Any, "PreTrainedTokenizerBase"]:
    dtype = look_up("language model", name, LANGUAGE_MODELS).frozen_dtype
    model, tokenizer = build_language_model(name, path, dtype=dtype)
    return model.requires_grad_(False), tokenizer
