"""Tiny encoders and language models with random weights, saved exactly as the real ones are published."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gmail_kedro.mini.pretraining.pretrain_long_clip import long_clip_config
from gmail_kedro.mini.pretraining.pretrain_siglip import siglip_config
from gmail_kedro.mini.pretraining.tokenizers import load_clip_tokenizer, train_siglip_tokenizer
from gmail_kedro.models.encoders.known_encoders import ENCODERS
from gmail_kedro.models.encoders.long_clip import build_long_clip
from gmail_kedro.models.encoders.open_clip_encoder import build_clip
from gmail_kedro.models.generators.known_generators import GENERATORS
from gmail_kedro.models.vision_language.known_vision_language_models import VISION_LANGUAGE_MODELS
from gmail_kedro.models.vision_language.language_models import LANGUAGE_MODELS
from gmail_kedro.models.weight_sources import packaged_weights

TEXTS = ["a red 7", "the number 42 in blue ink on ruled paper"]
FAMILIES = {
    "long_clip_b": "long_clip",
    "siglip_vit_b_16": "siglip",
    "synclr_vit_b_16": "synclr",
    "clip_vision_b_32": "clip_vision",
}


@contextlib.contextmanager
def promising_nothing(*names: str) -> Iterator[None]:
    """Lets tiny stand-ins pass under names whose sizes no test can afford; that they do not is tested elsewhere."""
    tables = (
        (ENCODERS, {"architecture": ""}),
        (GENERATORS, {"promised": {}}),
        (LANGUAGE_MODELS, {"sizes": None}),
        (VISION_LANGUAGE_MODELS, {"sizes": None, "tower": ""}),
    )
    with pytest.MonkeyPatch.context() as patch:
        for specs, nothing in tables:
            for name in set(names) & specs.keys():
                patch.setitem(specs, name, replace(specs[name], **nothing))
        yield


def save_long_clip(folder: Path) -> dict[str, torch.Tensor]:
    """A raw state dict as ``longclip-B.pt`` is one: OpenAI's names, half precision, two tables of positions."""
    torch.manual_seed(0)
    tokenizer = load_clip_tokenizer(packaged_weights("clip"))
    config = long_clip_config(len(tokenizer))
    state = {name.removeprefix("text."): value.half() for name, value in build_long_clip(config).state_dict().items()}
    state["positional_embedding_res"] = torch.randn_like(state["positional_embedding_res"]) * 0.01
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "longclip-B.pt")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    tokenizer.save_pretrained(folder)
    return state


def save_siglip(folder: Path) -> dict[str, torch.Tensor]:
    """open_clip's hub layout."""
    torch.manual_seed(0)
    tokenizer = train_siglip_tokenizer(TEXTS, context_length=64)
    config = siglip_config(len(tokenizer))
    model = build_clip(config)
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    preprocessing = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    stored = {"model_cfg": config, "preprocess_cfg": preprocessing}
    (folder / "open_clip_config.json").write_text(json.dumps(stored))
    tokenizer.save_pretrained(folder)
    return state


def save_synclr(folder: Path) -> dict[str, torch.Tensor]:
    """A ``.pth`` of a distributed run: ``module.visual.`` before timm's names, training's own tensors beside them."""
    import timm

    torch.manual_seed(0)
    state = timm.create_model("test_vit", num_classes=0, global_pool="token").state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    stored = {f"module.visual.{name}": value for name, value in state.items()}
    stored |= {"module.visual.mask_token": torch.zeros(1, 1, 64), "module.dino_head.weight": torch.zeros(2, 2)}
    torch.save({"model": stored, "epoch": 3}, folder / "synclr_vit_b_16.pth")
    (folder / "config.json").write_text(json.dumps({"architecture": "test_vit", "image_size": 128}))
    return state


def save_clip_vision(folder: Path) -> dict[str, torch.Tensor]:
    """transformers' folder."""
    from gmail_kedro.mini.pretraining.pretrain_clip_vision import PackagedClipVision, build_clip_vision

    torch.manual_seed(0)
    model = build_clip_vision(48)
    PackagedClipVision(model).save_pretrained(folder)
    return model.state_dict()


def save_tiny_llama(folder: Path, texts: list[str]) -> Path:
    """LLaMA-3's folder: grouped-query attention, safetensors, a fast byte-level BPE with a start token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    start, end = "<|begin_of_text|>", "<|end_of_text|>"
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer, learner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=[start, end], initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    learner.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=[(start, 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=learner, bos_token=start, eos_token=end)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=96,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


SAVE = {
    "long_clip": save_long_clip,
    "siglip": save_siglip,
    "synclr": save_synclr,
    "clip_vision": save_clip_vision,
}
