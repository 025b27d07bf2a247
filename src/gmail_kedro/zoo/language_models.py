"""Language models by name, through transformers."""

from dataclasses import dataclass
from pathlib import Path
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
    "mini_llama": LanguageModelSpec(packaged="llama"),
    "gpt2": LanguageModelSpec(hub_id="openai-community/gpt2", lora_targets=("c_attn",)),
    "llama_3_8b": LanguageModelSpec(hub_id="meta-llama/Meta-Llama-3-8B", frozen_dtype="bfloat16"),
    "llama_3_8b_instruct": LanguageModelSpec(hub_id="meta-llama/Meta-Llama-3-8B-Instruct", frozen_dtype="bfloat16"),
    "vicuna_7b": LanguageModelSpec(hub_id="lmsys/vicuna-7b-v1.5", frozen_dtype="bfloat16"),
    "vicuna_13b": LanguageModelSpec(hub_id="lmsys/vicuna-13b-v1.5", frozen_dtype="bfloat16"),
}


def build_language_model(
    name: str, path: str | None, *, dtype: str = "float32"
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """Returns a causal language model and its tokenizer; padding is the end token.

    Args:
        name: A key of ``LANGUAGE_MODELS``.
        path: A local folder in transformers' layout, or None for the zoo's own source.
        dtype: Of the weights: ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        UnknownModelError: If the zoo does not know the name.
        MissingWeightsError: If the weights are not there or do not fit.
    """
    from transformers import AutoTokenizer

    spec = look_up("language model", name, LANGUAGE_MODELS)
    if path is not None:
        source = str(local_folder("language model", name, path))
    else:
        source = str(packaged_weights(spec.packaged)) if spec.packaged else spec.hub_id
    try:
        model, missing = load_causal_model(source, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except OSError as error:
        raise MissingWeightsError(
            f"The weights of the language model {name!r} could not be loaded from {source}: {error}. "
            "Download them and set downstream.language_model_path to their folder."
        ) from error
    if missing:
        raise MissingWeightsError(
            f"The weights in {source} do not fit the language model {name!r}: {len(missing)} missing "
            f"({', '.join(missing[:3])}). Give all files of one causal language model."
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def load_causal_model(source: str | Path, *, dtype: str = "float32") -> tuple["PreTrainedModel", list[str]]:
    """Returns a causal language model from a folder or the hub, and the weights it lacks there.

    GPT-2's GELU is written in eight operations on whole tensors; here it is torch's own kernel of the same function,
    which takes a fifth off a training step of the mini GPT-2.

    Args:
        source: Folder or hub repository.
        dtype: Of the weights: ``float32``, ``bfloat16`` or ``float16``.

    Raises:
        OSError: If nothing can be loaded from there.
    """
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.activations import NewGELUActivation

    mute_transformers()
    model, loading = AutoModelForCausalLM.from_pretrained(source, dtype=getattr(torch, dtype), output_loading_info=True)
    for name, module in list(model.named_modules()):
        if isinstance(module, NewGELUActivation):
            model.set_submodule(name, torch.nn.GELU(approximate="tanh"))
    return model, sorted(loading["missing_keys"])
