"""Nodes of the pretraining pipeline: the mini models, from the mini world alone, each with a card of what it can do.

Every model is trained by functions that import its library, so that naming the nodes costs nothing.
"""

from pathlib import Path

import torch

from gmail_kedro.interfaces import ImageTextEncoder, SavesItself
from gmail_kedro.mini.pretraining.params import PretrainingParams


def train_tokenizers(params: PretrainingParams) -> tuple[SavesItself, SavesItself]:
    """Returns the CLIP and the GPT-2 tokenizer of the mini world."""
    from gmail_kedro.mini.pretraining.pretrain_clip import CONTEXT_LENGTH
    from gmail_kedro.mini.pretraining.pretrain_language_model import MAX_POSITIONS
    from gmail_kedro.mini.pretraining.tokenizers import sample_texts, train_clip_tokenizer, train_gpt2_tokenizer

    texts = sample_texts(seed=params.seed)
    return (
        train_clip_tokenizer(texts, context_length=CONTEXT_LENGTH),
        train_gpt2_tokenizer(texts, context_length=MAX_POSITIONS),
    )


def train_digit_reader(params: PretrainingParams) -> SavesItself:
    """Returns the CNN that judges generated digits."""
    from gmail_kedro.mini.pretraining.digit_reader import train_reader

    return train_reader(
        steps=params.reader_steps, scene_count=params.scene_count, batch_size=params.reader_batch_size, seed=params.seed
    )


def train_encoder(clip_tokenizer: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini CLIP with its tokenizer."""
    from gmail_kedro.mini.pretraining.pretrain_clip import PackagedClip, clip_config, pretrain_clip
    from gmail_kedro.mini.pretraining.tokenizers import load_clip_tokenizer

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
    from gmail_kedro.mini.pretraining.pretrain_generator import pretrain_generator
    from gmail_kedro.mini.pretraining.tokenizers import load_clip_tokenizer

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
    from gmail_kedro.mini.pretraining.pretrain_language_model import PackagedLanguageModel, pretrain_language_model
    from gmail_kedro.mini.pretraining.tokenizers import load_gpt2_tokenizer

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
    from gmail_kedro.mini.pretraining.measuring import (
        measure_encoder,
        measure_generator,
        measure_language_model,
        measure_reader,
        measure_room_to_gain,
    )
    from gmail_kedro.mini.pretraining.model_cards import (
        encoder_card,
        generator_card,
        language_model_card,
        reader_card,
    )
    from gmail_kedro.models.generators.sampling import Sampling

    sampling = Sampling(steps=params.sampling_steps, guidance=params.sampling_guidance, resolution=32)
    return (
        encoder_card(measure_encoder() | measure_room_to_gain(seed=params.seed), params),
        generator_card(measure_generator("mini_stable_diffusion", None, mini_reader, sampling), params),
        language_model_card(measure_language_model(), params),
        reader_card(measure_reader(mini_reader), params),
    )


def train_clip_vision(mini_clip: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini CLIP vision tower, which copies the mini CLIP's image embeddings."""
    from gmail_kedro.mini.pretraining.pretrain_clip_vision import PackagedClipVision, pretrain_clip_vision

    model = pretrain_clip_vision(
        _build_teacher(mini_clip),
        steps=params.clip_vision_steps,
        scene_count=params.encoder_scene_count,
        batch_size=params.encoder_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedClipVision(model)


def train_long_clip(
    mini_clip_vision: Path, clip_tokenizer: Path, checkpoints: Path, params: PretrainingParams
) -> SavesItself:
    """Returns the mini Long-CLIP, whose image tower starts as the mini CLIP vision tower."""
    from gmail_kedro.mini.pretraining.pretrain_clip_vision import load_vision_tower
    from gmail_kedro.mini.pretraining.pretrain_long_clip import PackagedLongClip, pretrain_long_clip
    from gmail_kedro.mini.pretraining.tokenizers import load_clip_tokenizer

    tokenizer = load_clip_tokenizer(clip_tokenizer)
    model = pretrain_long_clip(
        load_vision_tower(mini_clip_vision),
        tokenizer,
        steps=(params.long_clip_short_steps, params.long_clip_long_steps),
        scene_count=params.encoder_scene_count,
        batch_size=params.encoder_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedLongClip(model, tokenizer)


def train_siglip(mini_clip: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini SigLIP with a tokenizer of its own."""
    from gmail_kedro.mini.pretraining.pretrain_clip import PackagedClip
    from gmail_kedro.mini.pretraining.pretrain_siglip import SIGLIP_CONTEXT, pretrain_siglip, siglip_config
    from gmail_kedro.mini.pretraining.tokenizers import sample_canonical_texts, train_siglip_tokenizer

    tokenizer = train_siglip_tokenizer(sample_canonical_texts(seed=params.seed), context_length=SIGLIP_CONTEXT)
    model = pretrain_siglip(
        _build_teacher(mini_clip),
        tokenizer,
        steps=(params.siglip_seeing_steps, params.siglip_reading_steps),
        scene_count=params.encoder_scene_count,
        batch_size=params.encoder_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedClip(model, tokenizer, siglip_config(len(tokenizer)))


def train_synclr(
    mini_clip: Path, mini_stable_diffusion: Path, checkpoints: Path, params: PretrainingParams
) -> SavesItself:
    """Returns the mini SynCLR, which sees images of the mini Stable Diffusion only."""
    from gmail_kedro.mini.pretraining.pretrain_synclr import PackagedSynclr, draw_generated_images, pretrain_synclr
    from gmail_kedro.models.generators.known_generators import build_generator
    from gmail_kedro.models.generators.sampling import Sampling

    generator = build_generator(
        "mini_stable_diffusion",
        str(mini_stable_diffusion),
        Sampling(steps=params.sampling_steps, guidance=params.sampling_guidance, resolution=32),
        device=torch.device("cpu"),
    )
    images = draw_generated_images(generator, caption_count=params.synclr_captions, seed=params.seed, work=checkpoints)
    tower = pretrain_synclr(
        _build_teacher(mini_clip),
        images,
        steps=params.synclr_steps,
        batch_size=params.encoder_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedSynclr(tower)


def write_encoder_cards(
    mini_clip_vision: Path, mini_long_clip: Path, mini_siglip: Path, mini_synclr: Path, params: PretrainingParams
) -> tuple[str, str, str, str]:
    """Measures the four on held-out handwriting and returns their cards, in the order of the arguments."""
    from gmail_kedro.mini.pretraining.measuring_encoders import (
        measure_clip_vision,
        measure_long_clip,
        measure_siglip,
        measure_synclr,
    )
    from gmail_kedro.mini.pretraining.model_cards import clip_vision_card, long_clip_card, siglip_card, synclr_card

    return (
        clip_vision_card(measure_clip_vision(str(mini_clip_vision)), params),
        long_clip_card(measure_long_clip(str(mini_long_clip)), params),
        siglip_card(measure_siglip(str(mini_siglip)), params),
        synclr_card(measure_synclr(str(mini_synclr)), params),
    )


def _build_teacher(mini_clip: Path) -> ImageTextEncoder:
    from gmail_kedro.models.encoders.known_encoders import build_encoder

    return build_encoder("mini_clip", str(mini_clip), device=torch.device("cpu"))


def train_flux(mini_stable_diffusion: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini FLUX in float16."""
    from gmail_kedro.mini.pretraining.pretrain_flux import load_teacher, pretrain_flux

    pipeline = pretrain_flux(
        load_teacher(mini_stable_diffusion),
        vae_steps=params.flux_vae_steps,
        steps=params.flux_steps,
        scene_count=params.flux_scene_count,
        batch_size=params.flux_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return pipeline.to(torch.float16)


def write_flux_card(mini_flux: Path, mini_reader: Path, params: PretrainingParams) -> str:
    """Measures the mini FLUX on held-out handwriting and returns its card."""
    from gmail_kedro.mini.pretraining.measuring import measure_generator
    from gmail_kedro.mini.pretraining.model_cards import flux_card
    from gmail_kedro.models.generators.sampling import Sampling

    sampling = Sampling(steps=params.flux_sampling_steps, guidance=params.flux_sampling_guidance, resolution=32)
    return flux_card(measure_generator("mini_flux", mini_flux, mini_reader, sampling), params)


def train_llama(checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini LLaMA-3 with its tokenizer; it reads drawings in words and sees no image."""
    from gmail_kedro.engine.checkpoint import Checkpoint
    from gmail_kedro.mini.pretraining.language_tokenizers import sample_dialogues, train_llama_3_tokenizer
    from gmail_kedro.mini.pretraining.pretrain_llama import PackagedLlama, build_llama_3, pretrain_language
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
    from gmail_kedro.mini.pretraining.language_tokenizers import sample_dialogues, train_vicuna_tokenizer
    from gmail_kedro.mini.pretraining.pretrain_clip_vision import load_vision_tower
    from gmail_kedro.mini.pretraining.pretrain_llava import PackagedLlava, pretrain_llava

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
    from gmail_kedro.mini.pretraining.measuring_language import measure_llama, measure_llava
    from gmail_kedro.mini.pretraining.model_cards import llama_card, llava_card

    return (
        llama_card(measure_llama(str(mini_llama)), params),
        llava_card(measure_llava(str(mini_llava)), params),
    )
