"""Vision-language models by name: published LLaVAs in transformers' layout, and ones put together here.

One that is put together has the vision tower of the run's encoder, a fresh projector and a named language model, as the
paper's LLaMA-3 has.
"""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.encoders.vision_only import ClipVisionTower, Preprocess
from gmail_kedro.models.strict_loading import (
    Sizes,
    clip_vision_sizes,
    language_sizes,
    load_whole,
    named_clip_sizes,
    refuse_other_sizes,
)
from gmail_kedro.models.vision_language.chat import IMAGE, build_chat
from gmail_kedro.models.vision_language.language_models import (
    LLAMA_3_8B,
    VICUNA_7B,
    VICUNA_13B,
    build_language_model,
    find_language_model_flaw,
    source_of,
)
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures, VisionLanguageModel
from gmail_kedro.models.weight_sources import (
    MODEL_FILES,
    MissingWeightsError,
    find_folder_flaw,
    look_up,
    mute_transformers,
    reason_of,
)

if TYPE_CHECKING:
    from transformers import LlavaConfig

KIND = "vision-language model"


@dataclass(frozen=True)
class LlavaSpec:
    """Where a vision-language model comes from, and what is known of it by its name."""

    packaged: str = ""  # folder of mini weights inside the package
    hub_id: str = ""
    language_model: str = ""  # name of the one that is put together with the run's encoder and a fresh projector
    chat_format: str = "auto"  # what auto means where neither processor nor tokenizer has a template
    sizes: Sizes | None = None  # what its name promises of its language model
    tower: str = ""  # open_clip's name of the CLIP whose tower it sees with


LARGE_TOWER = "ViT-L-14-336-quickgelu"
# An entry needs one source: `packaged` or `hub_id` for a whole model, as LlavaForConditionalGeneration and
# LlavaProcessor store it, or `language_model`, a key of LANGUAGE_MODELS. With a hub id come `sizes` and `tower`, to
# refuse another model under its name, and `chat_format` where the repository has no chat template.
VISION_LANGUAGE_MODELS = {
    "mini_llava": LlavaSpec(packaged="llava"),
    "mini_llava_llama3": LlavaSpec(language_model="mini_llama"),
    "llava_1_5_7b": LlavaSpec(
        hub_id="llava-hf/llava-1.5-7b-hf", chat_format="vicuna_v1.5", sizes=VICUNA_7B, tower=LARGE_TOWER
    ),
    "llava_1_5_13b": LlavaSpec(
        hub_id="llava-hf/llava-1.5-13b-hf", chat_format="vicuna_v1.5", sizes=VICUNA_13B, tower=LARGE_TOWER
    ),
    "llava_llama_3_8b": LlavaSpec(
        hub_id="xtuner/llava-llama-3-8b-v1_1-transformers", chat_format="llama_3", sizes=LLAMA_3_8B, tower=LARGE_TOWER
    ),
    "clip_llama_3_8b": LlavaSpec(language_model="llama_3_8b_instruct", chat_format="llama_3"),
    "clip_vicuna_7b": LlavaSpec(language_model="vicuna_7b", chat_format="vicuna_v1.5"),
    "clip_vicuna_13b": LlavaSpec(language_model="vicuna_13b", chat_format="vicuna_v1.5"),
}


@dataclass(frozen=True)
class LlavaSettings:
    """How a vision-language model is put together."""

    dtype: str  # of the frozen weights: float32, bfloat16 or float16
    vision_features: VisionFeatures
    chat_format: str  # auto, or a key of TEMPLATES
    seed: int  # of a fresh projector, and of the embedding of an image's token that is new to the language model


def build_vision_language_model(
    name: str, path: str | None, *, encoder: TowerEncoder, settings: LlavaSettings, device: torch.device
) -> VisionLanguageModel:
    """Returns a LLaVA with frozen weights, in eval mode; its tower belongs to no route yet.

    Args:
        name: A key of ``VISION_LANGUAGE_MODELS``.
        path: A local folder of the whole model (or, where it is put together, of the language model), or None for
            the packaged or published weights.
        encoder: The run's encoder as it is before any tuning; its tower goes into a model that is put together.
        settings: Types, features, chat and seed.
        device: Where the model goes.

    Raises:
        UnknownModelError: If the name is unknown.
        MissingWeightsError: If the weights are not there or do not fit.
        ValueError: If the encoder has no tower of LLaVA's kind, the layer does not exist, or there is no chat template.
    """
    spec = look_up(KIND, name, VISION_LANGUAGE_MODELS)
    vision = clip_tower_of(encoder)
    mute_transformers()
    if spec.language_model:
        model, tokenizer = _put_together(spec.language_model, path, vision, settings)
        template, preprocess = None, encoder.preprocess
    else:
        model, processor = _load(name, source_of(KIND, name, path, spec), settings.dtype)
        tokenizer, template = processor.tokenizer, processor.chat_template
        preprocess = Preprocess(processor.image_processor)
    _check_layer(settings.vision_features.vision_feature_layer, model.config.vision_config.num_hidden_layers)
    has_template = bool(template or tokenizer.chat_template)
    chosen = spec.chat_format if settings.chat_format == "auto" and not has_template else settings.chat_format
    chat = build_chat(tokenizer, template, chat_format=chosen)
    model = model.to(device).eval().requires_grad_(False)
    return VisionLanguageModel(name, model, chat, preprocess=preprocess, vision_features=settings.vision_features)


def clip_tower_of(encoder: TowerEncoder) -> Any:
    """Returns an encoder's ``CLIPVisionModel``.

    Raises:
        ValueError: If the encoder is of another family.
    """
    tower = encoder.image_tower
    if not isinstance(tower, ClipVisionTower):
        raise ValueError(
            f"LLaVA sees with CLIP's vision tower in transformers' format; the encoder {encoder.name!r} is of another "
            "family. Set run.encoder to mini_clip_vision, or to clip_vision_l_14_336 for the published models."
        )
    return tower.vision


def _load(name: str, source: str, dtype: str) -> tuple[Any, Any]:
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    try:
        config = LlavaConfig.from_pretrained(source, trust_remote_code=False)
        _refuse_other_parts(name, source, config)
        model = load_whole(LlavaForConditionalGeneration, name, source, config=config, dtype=getattr(torch, dtype))
        processor = LlavaProcessor.from_pretrained(source, trust_remote_code=False)
    except MissingWeightsError:
        raise
    except Exception as error:
        raise MissingWeightsError(
            f"The weights of the {KIND} {name!r} could not be loaded from {source}: {reason_of(error)}. "
            "Expected a folder as LlavaForConditionalGeneration and LlavaProcessor write it; set "
            "vision_language.model_path to it."
        ) from error
    if processor.tokenizer.convert_tokens_to_ids(IMAGE) != model.config.image_token_id:
        raise MissingWeightsError(
            f"The tokenizer in {source} has {IMAGE!r} at {processor.tokenizer.convert_tokens_to_ids(IMAGE)}, the "
            f"configuration says {model.config.image_token_id}. Give a tokenizer and a config.json of one model."
        )
    return model, processor


def _refuse_other_parts(name: str, source: str | Path, config: "LlavaConfig") -> None:
    spec = VISION_LANGUAGE_MODELS[name]
    refuse_other_sizes(name, source, found=language_sizes(config.text_config), promised=spec.sizes or {})
    found = clip_vision_sizes(config.vision_config)
    refuse_other_sizes(name, source, found=found, promised=named_clip_sizes(spec.tower))


def find_llava_flaw(name: str, place: Path) -> str:
    """Returns what keeps the named model's weights from being loaded from a folder, or nothing; none are read."""
    from transformers import LlavaConfig

    if language_model := VISION_LANGUAGE_MODELS[name].language_model:  # put together here: it has no other weights
        return find_language_model_flaw(language_model, place)
    if flaw := find_folder_flaw(place, MODEL_FILES):
        return flaw
    try:
        _refuse_other_parts(name, place, LlavaConfig.from_pretrained(place, trust_remote_code=False))
    except Exception as error:
        return reason_of(error)
    return ""


def _put_together(language_model: str, path: str | None, vision: Any, settings: LlavaSettings) -> tuple[Any, Any]:
    """Returns LLaVA's architecture around a tower and a language model; what is new in it is drawn from the seed."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    text, tokenizer = build_language_model(language_model, path, dtype=settings.dtype)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        if IMAGE not in tokenizer.get_vocab():
            tokenizer.add_tokens([IMAGE], special_tokens=True)
            # Never smaller: LLaMA's embeddings have rows beyond the tokenizer's last token.
            text.resize_token_embeddings(max(len(tokenizer), text.config.vocab_size), mean_resizing=False)
    config = LlavaConfig(
        vision_config=vision.config,
        text_config=text.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=text.config.tie_word_embeddings,
    )
    # On the meta device: the three parts are put in below, and random weights of 8 billion parameters take minutes.
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        projector = LlavaMultiModalProjector(config)
    model.model.vision_tower = copy.deepcopy(vision).to(getattr(torch, settings.dtype))
    model.model.language_model, model.lm_head = text.model, text.lm_head
    model.model.multi_modal_projector = projector
    model.generation_config = text.generation_config
    return model, tokenizer


def _check_layer(layer: int, layer_count: int) -> None:
    if not -layer_count - 1 <= layer <= layer_count:
        raise ValueError(
            f"The parameter vision_language.feature_layer must be a layer of the tower, which has {layer_count} and "
            f"its input ({-layer_count - 1} to {layer_count}). Got {layer} instead."
        )
