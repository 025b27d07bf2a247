"""What is tuned in a captioner's language model: all of it, LoRA factors through PEFT, or nothing.

A model that is trained whole is stored whole. Otherwise only what was trained is stored, with the name and the hash
of the weights underneath: eight billion frozen parameters are not copied into every run.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmail_kedro.models.fingerprints import hash_language_model
from gmail_kedro.models.student.adapters import WEIGHTS_FILE, TuningSpec, load_adapter, save_adapter, tune_tower
from gmail_kedro.models.vision_language.language_models import LANGUAGE_MODELS, build_language_model, load_causal_model
from gmail_kedro.models.weight_sources import MissingWeightsError, look_up, reason_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FOLDER = "language_model"
SETTING = "downstream.lora.targets"
REMEDY = "Train it again: kedro run --pipeline=downstream"


@dataclass(frozen=True)
class LanguageModelRecord:
    """Which language model a captioner has, as its configuration file says it.

    Attributes:
        name: Name of the model.
        path: Local folder of the untouched weights, or None for the packaged or published weights.
        tuning: ``full``, ``lora`` or ``none``.
        fingerprint: Hash of the untouched model and its tokenizer; empty where the tuned one is stored whole.
    """

    name: str
    path: str | None
    tuning: str
    fingerprint: str


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
        """Width W of its word embeddings."""
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
        name: Name of the model.
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
    spec = look_up("language model", name, LANGUAGE_MODELS)
    model, tokenizer = build_language_model(name, path, dtype=spec.frozen_dtype)
    record = LanguageModelRecord(name, path, tuning.kind, hash_language_model(model, tokenizer))
    tuning = replace(tuning, targets=tuning.targets or spec.lora_targets)
    tuned = tune_tower(model.requires_grad_(False), tuning, owner=name, seed=seed, setting=SETTING)
    return TunedLanguageModel(tuned, tokenizer, record)


def load_language_model(folder: Path, record: LanguageModelRecord) -> TunedLanguageModel:
    """Returns the language model of a stored captioner, frozen.

    Args:
        folder: The captioner's folder.
        record: What its configuration says.

    Raises:
        MissingWeightsError: If something is not there or does not fit, or the weights underneath are not those it was
            trained on.
    """
    own = folder / FOLDER
    if record.tuning == "full":
        from transformers import AutoTokenizer

        try:
            model = load_causal_model(record.name, own)
            tokenizer = AutoTokenizer.from_pretrained(own, trust_remote_code=False)
        except MissingWeightsError:
            raise
        except Exception as error:
            raise MissingWeightsError(
                f"The language model of the captioner in {folder} could not be loaded: {reason_of(error)}. {REMEDY}"
            ) from error
        return TunedLanguageModel(model.requires_grad_(False), tokenizer, record)
    spec = look_up("language model", record.name, LANGUAGE_MODELS)
    model, tokenizer = build_language_model(record.name, record.path, dtype=spec.frozen_dtype)
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
        model = load_adapter(model, own, owner=record.name)
    return TunedLanguageModel(model.requires_grad_(False), tokenizer, record)
