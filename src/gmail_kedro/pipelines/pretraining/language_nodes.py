"""Nodes that train the mini LLaMA-3 and the mini LLaVA."""

from pathlib import Path

from gmail_kedro.interfaces import SavesItself
from gmail_kedro.params.pretraining import PretrainingParams


def train_llama(checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini LLaMA-3 with its tokenizer; it reads drawings in words and sees no picture."""
    import torch

    from gmail_kedro.engine.checkpoint import Checkpoint
    from gmail_kedro.mini.language_tokenizers import sample_dialogues, train_llama_3_tokenizer
    from gmail_kedro.mini.pretrain_llama import PackagedLlama, build_llama_3, pretrain_language
    from gmail_kedro.models.vision_language.chat import build_chat

    tokenizer = train_llama_3_tokenizer(sample_dialogues(seed=params.seed))
    torch.manual_seed(params.seed)
    facts = {"steps": str(params.llama_steps), "batch_size": str(params.llama_batch_size), "seed": str(params.seed)}
    model = pretrain_language(
        build_llama_3(tokenizer),
        build_chat(tokenizer, None, chat_format="auto"),
        steps=params.llama_steps,
        batch_size=params.llama_batch_size,
        seed=params.seed,
        checkpoint=Checkpoint(checkpoints / "llama.safetensors", facts, every=100),
    )
    return PackagedLlama(model, tokenizer)


def train_llava(mini_clip_vision: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini LLaVA around the mini CLIP vision tower, which stays as it is."""
    from gmail_kedro.mini.language_tokenizers import sample_dialogues, train_vicuna_tokenizer
    from gmail_kedro.mini.pretrain_clip_vision import load_vision_tower
    from gmail_kedro.mini.pretrain_llava import PackagedLlava, pretrain_llava

    tokenizer = train_vicuna_tokenizer(sample_dialogues(seed=params.seed))
    model = pretrain_llava(
        load_vision_tower(mini_clip_vision),
        tokenizer,
        steps=params.llava_steps,
        scene_count=params.llava_scene_count,
        batch_size=params.llava_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedLlava(model, tokenizer)


def write_language_cards(mini_llama: Path, mini_llava: Path, params: PretrainingParams) -> tuple[str, str]:
    """Measures both on scenes with unseen handwriting and returns their cards, in the order of the arguments."""
    from gmail_kedro.pipelines.pretraining.cards import llama_card, llava_card
    from gmail_kedro.pipelines.pretraining.measuring_language import measure_llama, measure_llava

    return (
        llama_card(measure_llama(str(mini_llama)), params),
        llava_card(measure_llava(str(mini_llava)), params),
    )
