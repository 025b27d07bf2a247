"""Language models by name, through transformers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gmail_kedro.zoo.registry import MissingWeightsError, local_folder, look_up, mute_transformers, packaged_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class LanguageModelSpec:
    """Where a language model comes from.

    Attributes:
        packaged: Folder of mini weights inside the package, or empty.
        hub_id: Its hub repository.
    """

    packaged: str = ""
    hub_id: str = ""


LANGUAGE_MODELS = {
    "mini_gpt2": LanguageModelSpec(packaged="gpt2"),
    "gpt2": LanguageModelSpec(hub_id="openai-community/gpt2"),
}


def build_language_model(name: str, path: str | None) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Returns a causal language model in float32 and its tokenizer; padding is the end token.

    Args:
        name: A key of ``LANGUAGE_MODELS``.
        path: A local folder in transformers' layout, or None for the zoo's own source.

    Raises:
        UnknownModelError: If the zoo does not know the name.
        MissingWeightsError: If the weights are not there.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    mute_transformers()
    spec = look_up("language model", name, LANGUAGE_MODELS)
    if path is not None:
        source = str(local_folder("language model", name, path))
    else:
        source = str(packaged_weights(spec.packaged)) if spec.packaged else spec.hub_id
    try:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise MissingWeightsError(
            f"The weights of the language model {name!r} could not be loaded from {source}: {error}. "
            "Download them and set downstream.language_model_path to their folder."
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer
