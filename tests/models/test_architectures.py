"""Names promise sizes: those of the original pass, another architecture is named with both."""

import open_clip
import pytest
from transformers import CLIPVisionConfig, GPT2Config, LlamaConfig

from gmail_kedro.models.architectures import (
    clip_sizes,
    clip_vision_sizes,
    language_sizes,
    named_clip_sizes,
    named_language_sizes,
    refuse_other_sizes,
)
from gmail_kedro.models.encoders.known_encoders import ENCODERS
from gmail_kedro.models.encoders.synclr import load_synclr
from gmail_kedro.models.registry import MissingWeightsError
from gmail_kedro.models.vision_language.language_models import LANGUAGE_MODELS
from gmail_kedro.models.vision_language.llava import VISION_LANGUAGE_MODELS

GPT2_LARGE = GPT2Config(n_embd=1280, n_layer=36)
LLAMA_2 = LlamaConfig(hidden_size=4096, num_hidden_layers=32, intermediate_size=11008)


def test_every_name_but_the_minis_promises_its_sizes():
    clips = [spec for spec in ENCODERS.values() if not spec.packaged and spec.load is not load_synclr]
    assert len(clips) >= 10 and all(len(named_clip_sizes(spec.architecture)) == 13 for spec in clips)
    assert all(spec.architecture for spec in ENCODERS.values() if not spec.packaged)
    assert all((spec.sizes is None) == bool(spec.packaged) for spec in LANGUAGE_MODELS.values())
    whole = [spec for spec in VISION_LANGUAGE_MODELS.values() if spec.hub_id]
    assert len(whole) == 3 and all(spec.sizes and spec.tower for spec in whole)


def test_a_clip_of_the_same_sizes_may_differ_in_its_activation_only():
    quick, plain = (open_clip.get_model_config(name) for name in ("ViT-L-14-quickgelu", "ViT-L-14"))
    refuse_other_sizes("clip_vit_l_14", "here", found=clip_sizes(plain), promised=clip_sizes(quick))
    other = open_clip.get_model_config("ViT-L-14-336-quickgelu")
    with pytest.raises(
        MissingWeightsError, match=r"in here is not 'clip_vit_l_14'.* 1 of its .*image_size 336 instead of"
    ):
        refuse_other_sizes("clip_vit_l_14", "here", found=clip_sizes(other), promised=clip_sizes(quick))


def test_transformers_tower_is_held_against_open_clips_facts():
    promised = named_clip_sizes("ViT-L-14-336-quickgelu")
    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=336,
        patch_size=14, projection_dim=768,
    )  # fmt: skip
    refuse_other_sizes("x", "here", found=clip_vision_sizes(config, 768), promised=promised)
    with pytest.raises(MissingWeightsError, match="embed_dim 512 instead of 768"):
        refuse_other_sizes("x", "here", found=clip_vision_sizes(config, 512), promised=promised)
    refuse_other_sizes("x", "here", found=clip_vision_sizes(config), promised=promised)


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("gpt2", GPT2Config(), ""),
        (
            "gpt2",
            GPT2_LARGE,
            "2 of its sizes differ .hidden_size 1280 instead of 768, num_hidden_layers 36 instead of 12",
        ),
        ("gpt2", LLAMA_2, "model_type llama instead of gpt2"),
        ("vicuna_7b", LLAMA_2, ""),
        ("llama_3_8b", LLAMA_2, "1 of its sizes differ .intermediate_size 11008 instead of 14336"),
    ],
)
def test_language_models(name, config, words):
    promised = named_language_sizes(LANGUAGE_MODELS[name].sizes)
    if not words:
        refuse_other_sizes(name, "here", found=language_sizes(config), promised=promised)
        return
    with pytest.raises(MissingWeightsError, match=words):
        refuse_other_sizes(name, "here", found=language_sizes(config), promised=promised)


def test_a_mini_name_promises_nothing():
    assert named_clip_sizes("") == {} and named_language_sizes(None) == {}
