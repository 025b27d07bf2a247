"""Trains the mini Stable Diffusion: a VAE, then a U-Net and its text encoder by flow matching.

The result is an ordinary ``StableDiffusionPipeline``: f=4 autoencoder with 16 latent channels, a text-conditioned
U-Net on the 8x8 latent grid, a CLIP text encoder and a flow-matching multistep scheduler.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.mini.pretraining.generator_prompts import PROMPTS_PER_SCENE, Prompts, draw_prompts
from gmail_kedro.mini.pretraining.latent_reader import train_latent_reader
from gmail_kedro.mini.pretraining.pretrain_vae import LATENT_CHANNELS, encode_latents, train_vae
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.pretraining.weight_average import swap_averages, update_averages
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import draw_pool

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, PreTrainedTokenizerBase


TEXT_WIDTH, PROMPT_TOKENS = 128, 32
CAPTION_DROPOUT = 0.1  # for classifier-free guidance: the network must also know what it draws without a caption
DRAWING_STEPS = 3500  # the first stage; see _noise_level
OBEYING_NOISE = 1.5
READING_FROM = 8500  # the third stage; see _train_unet
READING_WEIGHT = 0.1
READING_STEPS = 1500
FLOW_SHIFT = 3.0  # spends the few sampling steps at high noise, where the caption is obeyed


def pretrain_generator(
    tokenizer: "PreTrainedTokenizerBase",
    *,
    vae_steps: int,
    unet_steps: int,
    scene_count: int,
    batch_size: int,
    seed: int,
    work: Path,
) -> "StableDiffusionPipeline":
    """Returns a Stable-Diffusion-layout pipeline trained on the mini world's training handwriting.

    Args:
        tokenizer: A CLIP tokenizer; prompts are cut at ``PROMPT_TOKENS`` tokens.
        vae_steps: Optimizer steps of the autoencoder.
        unet_steps: Optimizer steps of the U-Net and text encoder.
        scene_count: Number of training scenes.
        batch_size: Scenes a step.
        seed: Seeds scenes, weights and noise.
        work: Folder for the resumable training state.
    """
    torch.manual_seed(seed)
    pool = draw_pool(load_scans("train"), count=scene_count, seed=seed)
    images = torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)
    vae = train_vae(images, steps=vae_steps, batch_size=batch_size, seed=seed, work=work)
    latents = encode_latents(vae, images)
    pipeline = _assemble(vae, tokenizer)
    prompts = draw_prompts(pool, seed=seed)
    facts = {"steps": str(unet_steps), "seed": str(seed), "scenes": str(scene_count)}
    checkpoint = Checkpoint(work / "unet.safetensors", facts, every=500)
    _train_unet(
        pipeline,
        latents,
        prompts,
        steps=unet_steps,
        batch_size=batch_size,
        seed=seed,
        checkpoint=checkpoint,
    )
    return pipeline


def build_unet() -> "UNet2DConditionModel":
    """Returns an untrained U-Net on 8x8x16 latents, conditioned on text states and on their pooled summary."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(96, 112),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=TEXT_WIDTH,
        attention_head_dim=4,
        norm_num_groups=16,
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def build_text_encoder(tokenizer: "PreTrainedTokenizerBase") -> "CLIPTextModel":
    """Returns an untrained two-layer CLIP text encoder for prompts of ``PROMPT_TOKENS`` tokens."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def _assemble(vae: "AutoencoderKL", tokenizer: "PreTrainedTokenizerBase") -> "StableDiffusionPipeline":
    import copy

    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.model_max_length = PROMPT_TOKENS
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=FLOW_SHIFT,
        final_sigmas_type="zero",
        steps_offset=1,
    )
    return StableDiffusionPipeline(
        vae=vae,
        text_encoder=build_text_encoder(tokenizer),
        tokenizer=tokenizer,
        unet=build_unet(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _train_unet(
    pipeline: "StableDiffusionPipeline",
    latents: torch.Tensor,
    prompts: Prompts,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    checkpoint: Checkpoint,
) -> None:
    """Trains by flow matching: x_t = (1-t) x_0 + t noise, and the network predicts noise - x_0.

    Three stages: learn to draw, then (high noise) to obey the caption, then (reading loss) to obey its digits.
    """
    unet, text_encoder, tokenizer = pipeline.unet.train(), pipeline.text_encoder.train(), pipeline.tokenizer
    tokens = prompts.tokenize(tokenizer, length=PROMPT_TOKENS)
    empty = tokenizer("", padding="max_length", max_length=PROMPT_TOKENS, return_tensors="pt").input_ids[0]
    trained = [*unet.parameters(), *text_encoder.parameters()]
    optimizer = build_adamw(trained, learning_rate=1e-3, weight_decay=0.01)
    schedule = build_schedule(optimizer, kind="linear", steps=steps, warmup_steps=200)
    reader = train_latent_reader(latents, prompts.truth, steps=READING_STEPS, seed=seed)

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(seed, Stream.GENERATOR, index)
        rows = rng.integers(0, len(latents), batch_size)
        which = rng.integers(0, PROMPTS_PER_SCENE, batch_size)
        dropped = torch.from_numpy(rng.random(batch_size) < CAPTION_DROPOUT)
        states = text_encoder(torch.where(dropped[:, None], empty, tokens[rows, which])).last_hidden_state
        clean = latents[rows]
        noise = torch.from_numpy(rng.standard_normal(clean.shape, dtype=np.float32))
        time = torch.from_numpy(rng.normal(_noise_level(index), 1.0, batch_size).astype(np.float32)).sigmoid()
        mixed = torch.lerp(clean, noise, time[:, None, None, None])
        velocity = unet(mixed, time * 1000, encoder_hidden_states=states).sample.float()
        flow = (velocity - (noise - clean)).square().mean()
        if index < READING_FROM:
            return {"loss": flow}
        drawn = mixed - time[:, None, None, None] * velocity
        told = prompts.names_number[rows, which] & ~dropped
        reading = (reader.loss(drawn, prompts.truth, rows) * told).sum() / told.sum().clamp_min(1)
        return {"loss": flow + READING_WEIGHT * reading, "flow": flow, "reading": reading}

    run_training(
        step,
        optimizer,
        schedule,
        name="unet",
        steps=steps,
        every=200,
        checkpoint=checkpoint,
        after_step=lambda index: update_averages(optimizer, index),
    )
    swap_averages(optimizer)
    unet.eval()
    text_encoder.eval()


def _noise_level(index: int) -> float:
    """Returns the mean logit of the flow time at a step.

    At middle noise the 1,024 latent values still show which digit it is, so the caption teaches nothing: those steps
    learn to draw. Only at high noise must the network obey the caption.
    """
    return 0.0 if index < DRAWING_STEPS else OBEYING_NOISE
