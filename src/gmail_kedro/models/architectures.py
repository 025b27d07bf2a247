"""What a name of the zoo promises of a model's sizes, and the refusal of a model of other sizes under that name.

A table names its rows after the zoo. Whatever loads without a flaw but is another model would stand in it under a
wrong name. The mini models promise nothing: their folders say what they are.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gmail_kedro.models.registry import MissingWeightsError

Sizes = Mapping[str, Any]
LISTED = 4
IMAGE_SIZES = ("width", "layers", "patch_size", "image_size", "head_width", "timm_model_name")
TEXT_SIZES = ("width", "layers", "context_length", "vocab_size", "heads", "hf_model_name")


@dataclass(frozen=True)
class LanguageSizes:
    """Sizes of a language model.

    Attributes:
        model_type: transformers' word for its architecture.
        hidden_size: Width of its states.
        num_hidden_layers: Its layers.
        intermediate_size: Width inside its MLPs; None where it is four times the width.
    """

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    intermediate_size: int | None = None


GPT2 = LanguageSizes("gpt2", 768, 12)
LLAMA_3_8B = LanguageSizes("llama", 4096, 32, 14336)
VICUNA_7B = LanguageSizes("llama", 4096, 32, 11008)  # LLaMA 2's
VICUNA_13B = LanguageSizes("llama", 5120, 40, 13824)


def refuse_other_sizes(name: str, source: str | Path, *, found: Sizes, promised: Sizes) -> None:
    """Refuses a model that is not of the sizes its name promises.

    Args:
        name: Name of the model.
        source: Where the model is.
        found: Its sizes.
        promised: The sizes of the name; sizes that ``found`` does not have are passed over.

    Raises:
        MissingWeightsError: If one differs; counts those that do and lists the first, of both.
    """
    others = [
        f"{size} {found[size]} instead of {value}"
        for size, value in promised.items()
        if size in found and found[size] != value
    ]
    if others:
        raise MissingWeightsError(
            f"The model in {source} is not {name!r}, but of another architecture: {len(others)} of its sizes differ "
            f"({', '.join(others[:LISTED])}{', ...' if len(others) > LISTED else ''}). Give the weights of {name!r}, "
            "or the name of the model they belong to."
        )


def clip_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the sizes of a CLIP or SigLIP, with open_clip's own values where its configuration says nothing.

    Args:
        config: open_clip's ``model_cfg``.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    image, text = CLIPVisionCfg(**config["vision_cfg"]), CLIPTextCfg(**config["text_cfg"])
    return (
        {f"image tower's {size}": getattr(image, size) for size in IMAGE_SIZES}
        | {f"text tower's {size}": getattr(text, size) for size in TEXT_SIZES}
        | {"embed_dim": config["embed_dim"]}
    )


def named_clip_sizes(architecture: str) -> dict[str, Any]:
    """Returns the sizes of one of open_clip's architectures; none for the empty name of a mini model."""
    import open_clip

    return clip_sizes(open_clip.get_model_config(architecture)) if architecture else {}


def clip_vision_sizes(config: Any, projection: int | None = None) -> dict[str, Any]:
    """Returns the sizes of transformers' ``CLIPVisionConfig``, in the words of ``clip_sizes``.

    Args:
        config: The configuration.
        projection: Width of the embeddings, or None where the tower is used without its projection.
    """
    sizes = {"image_size": config.image_size, "patch_size": config.patch_size}
    sizes |= {"width": config.hidden_size, "layers": config.num_hidden_layers}
    found = {f"image tower's {size}": value for size, value in sizes.items()}
    return found if projection is None else found | {"embed_dim": projection}


def language_sizes(config: Any) -> dict[str, Any]:
    """Returns the sizes of a transformers configuration of a language model."""
    return asdict(
        LanguageSizes(
            config.model_type,
            config.hidden_size,
            config.num_hidden_layers,
            getattr(config, "intermediate_size", None),
        )
    )


def named_language_sizes(sizes: LanguageSizes | None) -> dict[str, Any]:
    """Returns the sizes of a name in the zoo; none for a mini model."""
    return {} if sizes is None else asdict(sizes)
