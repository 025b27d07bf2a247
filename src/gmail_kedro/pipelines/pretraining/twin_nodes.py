"""Nodes that train the mini CLIP's relatives: LLaVA's vision tower, Long-CLIP, SigLIP and SynCLR."""

from pathlib import Path

from gmail_kedro.interfaces import ImageTextEncoder, SavesItself
from gmail_kedro.params.pretraining import PretrainingParams


def train_clip_vision(mini_clip: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini CLIP vision tower, which copies the mini CLIP's image embeddings."""
    from gmail_kedro.mini.pretrain_clip_vision import PackagedClipVision, pretrain_clip_vision

    model = pretrain_clip_vision(
        _build_teacher(mini_clip),
        steps=params.clip_vision_steps,
        scene_count=params.twin_scene_count,
        batch_size=params.twin_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedClipVision(model)


def train_long_clip(
    mini_clip_vision: Path, clip_tokenizer: Path, checkpoints: Path, params: PretrainingParams
) -> SavesItself:
    """Returns the mini Long-CLIP, whose image tower starts as the mini CLIP vision tower."""
    from gmail_kedro.mini.pretrain_clip_vision import load_vision_tower
    from gmail_kedro.mini.pretrain_long_clip import PackagedLongClip, pretrain_long_clip
    from gmail_kedro.mini.tokenizers import load_clip_tokenizer

    tokenizer = load_clip_tokenizer(clip_tokenizer)
    model = pretrain_long_clip(
        load_vision_tower(mini_clip_vision),
        tokenizer,
        steps=(params.long_clip_short_steps, params.long_clip_long_steps),
        scene_count=params.twin_scene_count,
        batch_size=params.twin_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedLongClip(model, tokenizer)


def train_siglip(mini_clip: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini SigLIP with a tokenizer of its own."""
    from gmail_kedro.mini.pretrain_encoder import PackagedClip
    from gmail_kedro.mini.pretrain_siglip import SIGLIP_CONTEXT, pretrain_siglip, siglip_config
    from gmail_kedro.mini.tokenizers import sample_canonical_texts, train_siglip_tokenizer

    tokenizer = train_siglip_tokenizer(sample_canonical_texts(seed=params.seed), context_length=SIGLIP_CONTEXT)
    model = pretrain_siglip(
        _build_teacher(mini_clip),
        tokenizer,
        steps=(params.siglip_seeing_steps, params.siglip_reading_steps),
        scene_count=params.twin_scene_count,
        batch_size=params.twin_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedClip(model, tokenizer, siglip_config(len(tokenizer)))


def train_synclr(
    mini_clip: Path, mini_stable_diffusion: Path, checkpoints: Path, params: PretrainingParams
) -> SavesItself:
    """Returns the mini SynCLR, which sees pictures of the mini Stable Diffusion only."""
    import torch

    from gmail_kedro.mini.pretrain_synclr import PackagedSynclr, draw_generated_pictures, pretrain_synclr
    from gmail_kedro.models.generators.known_generators import build_generator
    from gmail_kedro.models.generators.sampling import Sampling

    generator = build_generator(
        "mini_stable_diffusion",
        str(mini_stable_diffusion),
        Sampling(steps=params.sampling_steps, guidance=params.sampling_guidance, resolution=32),
        device=torch.device("cpu"),
    )
    pictures = draw_generated_pictures(
        generator, caption_count=params.synclr_captions, seed=params.seed, work=checkpoints
    )
    tower = pretrain_synclr(
        _build_teacher(mini_clip),
        pictures,
        steps=params.synclr_steps,
        batch_size=params.twin_batch_size,
        seed=params.seed,
        work=checkpoints,
    )
    return PackagedSynclr(tower)


def write_twin_cards(
    mini_clip_vision: Path, mini_long_clip: Path, mini_siglip: Path, mini_synclr: Path, params: PretrainingParams
) -> tuple[str, str, str, str]:
    """Measures the four on held-out handwriting and returns their cards, in the order of the arguments."""
    from gmail_kedro.pipelines.pretraining.cards import clip_vision_card, long_clip_card, siglip_card, synclr_card
    from gmail_kedro.pipelines.pretraining.measuring_twins import (
        measure_clip_vision,
        measure_long_clip,
        measure_siglip,
        measure_synclr,
    )

    return (
        clip_vision_card(measure_clip_vision(str(mini_clip_vision)), params),
        long_clip_card(measure_long_clip(str(mini_long_clip)), params),
        siglip_card(measure_siglip(str(mini_siglip)), params),
        synclr_card(measure_synclr(str(mini_synclr)), params),
    )


def _build_teacher(mini_clip: Path) -> ImageTextEncoder:
    import torch

    from gmail_kedro.models.encoders.known_encoders import build_encoder

    return build_encoder("mini_clip", str(mini_clip), device=torch.device("cpu"))
