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
        lora_targets: Modules that get LoRA factors unless a configuration names others.
        frozen_dtype: How weights that are not trained are held: ``float32`` or ``bfloat16``.
    """

    packaged: str = ""
    hub_id: str = ""
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj")
    frozen_dtype: str = "float32"


LANGUAGE_MODELS = {
    "mini_gpt2": LanguageModelSpec(packaged="gpt2", lora_targets=("c_attn",)),
    "gpt2": LanguageModelSpec(hub_id="openai-community/gpt2", lora_targets=("c_attn",)),
    "llama_3_8b": LanguageModelSpec(hub_id="meta-llama/Meta-Llama-3-8B", frozen_dtype="bfloat16"),
}


def build_language_model(
    name: str, path: str | None, *, dtype: str = "float32"
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Returns a causal language model and its tokenizer; padding is the end token.

    Args:
        name: A key of ``LANGUAGE_MODELS``.
        path: A local folder in transformers' layout, or None for the zoo's own source.
        dtype: How the weights are held: ``float32`` or ``bfloat16``.

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
        model = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype))
        tokenizer = AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise MissingWeightsError(
            f"The weights of the language model {name!r} could not be loaded from {source}: {error}. "
            "Download them and set downstream.language_model_path to their folder."
        ) from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer
