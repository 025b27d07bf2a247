"""Nodes of the pretraining pipeline: the mini models, from the mini world alone."""

from pathlib import Path

from gmail_kedro.interfaces import SavesItself
from gmail_kedro.params.pretraining import PretrainingParams


def train_tokenizers(params: PretrainingParams) -> tuple[SavesItself, SavesItself]:
    """Returns the CLIP and the GPT-2 tokenizer of the mini world."""
    from gmail_kedro.mini.pretrain_encoder import CONTEXT_LENGTH
    from gmail_kedro.mini.pretrain_language_model import MAX_POSITIONS
    from gmail_kedro.mini.tokenizers import sample_texts, train_clip_tokenizer, train_gpt2_tokenizer

    texts = sample_texts(seed=params.seed)
    return (
        train_clip_tokenizer(texts, context_length=CONTEXT_LENGTH),
        train_gpt2_tokenizer(texts, context_length=MAX_POSITIONS),
    )


def train_digit_reader(params: PretrainingParams) -> SavesItself:
    """Returns the CNN that judges generated digits."""
    from gmail_kedro.mini.reader import train_reader

    return train_reader(
        steps=params.reader_steps, scene_count=params.scene_count, batch_size=params.reader_batch_size, seed=params.seed
    )


def train_encoder(clip_tokenizer: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini CLIP with its tokenizer."""
    from gmail_kedro.mini.pretrain_encoder import PackagedClip, clip_config, pretrain_clip
    from gmail_kedro.mini.tokenizers import load_clip_tokenizer

    tokenizer = load_clip_tokenizer(clip_tokenizer)
    model = pretrain_clip(
        tokenizer,
        steps=params.clip_steps,
        stop_after=params.clip_stop_after,
        scene_count=params.scene_count,
        batch_size=params.clip_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedClip(model, tokenizer, clip_config(len(tokenizer)))


def train_generator(clip_tokenizer: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini Stable Diffusion in float16."""
    import torch

    from gmail_kedro.mini.pretrain_generator import pretrain_generator
    from gmail_kedro.mini.tokenizers import load_clip_tokenizer

    pipeline = pretrain_generator(
        load_clip_tokenizer(clip_tokenizer),
        vae_steps=params.vae_steps,
        unet_steps=params.unet_steps,
        scene_count=params.scene_count,
        batch_size=params.generator_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return pipeline.to(torch.float16)


def train_language_model(gpt2_tokenizer: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini GPT-2 in float16 with its tokenizer."""
    from gmail_kedro.mini.pretrain_language_model import PackagedLanguageModel, pretrain_language_model
    from gmail_kedro.mini.tokenizers import load_gpt2_tokenizer

    tokenizer = load_gpt2_tokenizer(gpt2_tokenizer)
    model = pretrain_language_model(
        tokenizer,
        steps=params.gpt2_steps,
        scene_count=params.scene_count // 3,
        batch_size=params.gpt2_batch_size,
        seed=params.seed,
    )
    return PackagedLanguageModel(model.half(), tokenizer)


def write_cards(
    mini_clip: Path, mini_stable_diffusion: Path, mini_gpt2: Path, mini_reader: Path, params: PretrainingParams
) -> tuple[str, str, str, str]:
    """Measures the mini models on held-out data and returns their cards: CLIP, generator, GPT-2, reader."""
    from gmail_kedro.models.generators.sampling import Sampling
    from gmail_kedro.pipelines.pretraining.cards import (
        encoder_card,
        generator_card,
        language_model_card,
        reader_card,
    )
    from gmail_kedro.pipelines.pretraining.measuring import (
        measure_encoder,
        measure_generator,
        measure_language_model,
        measure_reader,
        measure_room_to_gain,
    )

    sampling = Sampling(steps=params.sampling_steps, guidance=params.sampling_guidance, resolution=32)
    return (
        encoder_card(measure_encoder() | measure_room_to_gain(seed=params.seed), params),
        generator_card(measure_generator("mini_stable_diffusion", None, mini_reader, sampling), params),
        language_model_card(measure_language_model(), params),
        reader_card(measure_reader(mini_reader), params),
    )
