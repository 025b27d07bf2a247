"""Tiny language models, towers and LLaVAs with random weights, saved exactly as the real ones are published."""

from pathlib import Path
from typing import Any

import torch

from gmail_kedro.mini.pretraining.language_tokenizers import train_llama_3_tokenizer, train_vicuna_tokenizer
from gmail_kedro.models.vision_language.chat import IMAGE, LLAVA_TEMPLATE

TEXTS = ["What color is the ink?", "a red 7 on lined paper.", "USER: ASSISTANT: user assistant"] * 3
IMAGE_SIZE, PATCH = 28, 14


def save_tower(folder: Path, *, seed: int = 0, image_size: int = IMAGE_SIZE) -> Any:
    """CLIP ViT-L/14's layout (14-pixel patches, quick GELU) as ``clip_vision_l_14_336`` is published."""
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=2,
        image_size=image_size,
        patch_size=PATCH,
        projection_dim=12,
        hidden_act="quick_gelu",
        initializer_factor=5.0,
    )
    model = CLIPVisionModelWithProjection(config)
    model.save_pretrained(folder)
    _image_processor(CLIPImageProcessor, image_size).save_pretrained(folder)
    return model


def save_llama_3(folder: Path) -> Any:
    """LLaMA-3's layout: grouped-query attention, rotary base 500,000, untied words, its tokens and its template."""
    tokenizer = train_llama_3_tokenizer(TEXTS, vocab_size=270)
    return _save_language(folder, tokenizer, key_value_heads=1, theta=500_000.0, tied=False)


def save_vicuna(folder: Path) -> Any:
    """Vicuna's layout: LLaMA-2's tokenizer, and no chat template."""
    tokenizer = train_vicuna_tokenizer(TEXTS, vocab_size=300)
    return _save_language(folder, tokenizer, key_value_heads=2, theta=10_000.0, tied=False)


def save_llava(folder: Path, tower: Any, *, shard_size: str = "5GB") -> Any:
    """LLaVA-1.5's layout: tower, projector, language model, processor; in several shards if they are small."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    torch.manual_seed(1)
    tokenizer = train_vicuna_tokenizer(TEXTS, vocab_size=300)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=_config(tokenizer, key_value_heads=2, theta=10_000.0, tied=False),
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=False,
    )
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.vision_model.state_dict())
    model.save_pretrained(folder, max_shard_size=shard_size)
    LlavaProcessor(
        image_processor=_image_processor(CLIPImageProcessor, tower.config.image_size),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    ).save_pretrained(folder)
    return model


def _image_processor(kind: Any, side: int) -> Any:
    return kind(size={"shortest_edge": side}, crop_size={"height": side, "width": side})


def _config(tokenizer: Any, *, key_value_heads: int, theta: float, tied: bool) -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=key_value_heads,
        intermediate_size=32,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.3,
    )


def _save_language(folder: Path, tokenizer: Any, *, key_value_heads: int, theta: float, tied: bool) -> Any:
    from transformers import LlamaForCausalLM

    torch.manual_seed(2)
    model = LlamaForCausalLM(_config(tokenizer, key_value_heads=key_value_heads, theta=theta, tied=tied))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model
