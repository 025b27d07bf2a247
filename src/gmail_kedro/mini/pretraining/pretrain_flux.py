"""Trains the mini FLUX: a transformer and its two text encoders learn the mini Stable Diffusion's guided flow.

The result is an ordinary ``FluxPipeline``, guidance-distilled like FLUX.1 dev: on noised latents of training scenes
the transformer predicts, in one pass, the velocity that the mini Stable Diffusion needs two passes for (with and
without the caption), at a guidance scale it is told. The teacher is asked once a scene and never again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from gmail_kedro.engine.batches import Stream, batch_rows, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.mini.pretraining.generator_prompts import PROMPTS_PER_SCENE, Prompts, draw_prompts
from gmail_kedro.mini.pretraining.latent_reader import train_latent_reader
from gmail_kedro.mini.pretraining.pretrain_flux_vae import copy_vae
from gmail_kedro.mini.pretraining.pretrain_generator import FLOW_SHIFT, PROMPT_TOKENS
from gmail_kedro.mini.pretraining.pretrain_vae import LATENT_CHANNELS, encode_latents
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.pretraining.tokenizers import sample_texts, train_t5_tokenizer
from gmail_kedro.mini.pretraining.weight_average import swap_averages, update_averages
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import draw_pool

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel, StableDiffusionPipeline
    from transformers import CLIPTextModel, PreTrainedTokenizerBase, T5EncoderModel


T5_TOKENS, T5_WIDTH, CLIP_WIDTH = 28, 96, 48
GUIDANCE_RANGE = (2.0, 6.0)  # the scales it will be told: a distilled model knows no others
READING_WEIGHT = 0.1
READING_STEPS = 400
LEARNING_RATE = 2e-3
TOKEN_GRID = 4
SCENES_AT_ONCE = 64


def pretrain_flux(
    teacher: "StableDiffusionPipeline",
    *,
    vae_steps: int,
    steps: int,
    scene_count: int,
    batch_size: int,
    seed: int,
    work: Path,
) -> "FluxPipeline":
    """Returns a FLUX-layout pipeline trained on the mini world's training handwriting.

    Args:
        teacher: The mini Stable Diffusion, in float32.
        vae_steps: Optimizer steps of the autoencoder.
        steps: Optimizer steps of the transformer and the text encoders.
        scene_count: Number of training scenes.
        batch_size: Scenes a step.
        seed: Seeds scenes, weights and noise.
        work: Folder for the resumable training state.
    """
    torch.manual_seed(seed)
    pool = draw_pool(load_scans("train"), count=scene_count, seed=seed)
    images = torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)
    latents = encode_latents(teacher.vae, images)
    vae = copy_vae(images, latents, steps=vae_steps, batch_size=batch_size, seed=seed, work=work)
    pipeline = assemble_flux(vae, teacher.tokenizer, seed=seed)
    facts = {"steps": str(steps), "seed": str(seed), "scenes": str(scene_count)}
    _train_transformer(
        pipeline,
        teacher,
        latents,
        draw_prompts(pool, seed=seed),
        steps=steps,
        batch_size=batch_size,
        checkpoint=Checkpoint(work / "flux.safetensors", facts, every=100),
        seed=seed,
    )
    return pipeline


def load_teacher(folder: Path) -> "StableDiffusionPipeline":
    """Returns the mini Stable Diffusion stored in a folder, in float32."""
    from diffusers import StableDiffusionPipeline

    return StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)


def build_transformer() -> "FluxTransformer2DModel":
    """Returns an untrained FLUX transformer on 4x4 tokens of 2x2x16 latents: one double block and two single ones."""
    from diffusers import FluxTransformer2DModel

    return FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=2,
        attention_head_dim=24,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(8, 8, 8),
    )


def build_text_encoders(
    clip_tokenizer: "PreTrainedTokenizerBase", t5_tokenizer: "PreTrainedTokenizerBase"
) -> tuple["CLIPTextModel", "T5EncoderModel"]:
    """Returns untrained one-layer encoders: CLIP's, of which FLUX reads the summary, and T5's."""
    from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

    clip = CLIPTextConfig(
        vocab_size=len(clip_tokenizer),
        hidden_size=CLIP_WIDTH,
        intermediate_size=2 * CLIP_WIDTH,
        num_hidden_layers=1,
        num_attention_heads=4,
        max_position_embeddings=PROMPT_TOKENS,
        bos_token_id=clip_tokenizer.bos_token_id,
        eos_token_id=clip_tokenizer.eos_token_id,
        pad_token_id=clip_tokenizer.pad_token_id,
    )
    t5 = T5Config(
        vocab_size=len(t5_tokenizer),
        d_model=T5_WIDTH,
        d_kv=24,
        d_ff=2 * T5_WIDTH,
        num_layers=1,
        num_heads=4,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=t5_tokenizer.pad_token_id,
        eos_token_id=t5_tokenizer.eos_token_id,
    )
    return CLIPTextModel(clip), T5EncoderModel(t5)


def assemble_flux(vae: "AutoencoderKL", clip_tokenizer: "PreTrainedTokenizerBase", *, seed: int) -> "FluxPipeline":
    """Returns a pipeline with an untrained transformer and text encoders."""
    from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline

    t5_tokenizer = train_t5_tokenizer(sample_texts(seed=seed), context_length=T5_TOKENS)
    text_encoder, text_encoder_2 = build_text_encoders(clip_tokenizer, t5_tokenizer)
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=FLOW_SHIFT),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=clip_tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=t5_tokenizer,
        transformer=build_transformer(),
    )


@dataclass(frozen=True)
class _TeacherFlow:
    """The teacher's two velocities at one noise level of each of N scenes, computed once.

    Attributes:
        mixed: Noised latents [N, 16, 8, 8].
        time: Flow times [N].
        without: Velocity without the caption [N, 16, 8, 8].
        told: Velocity with the caption [N, 16, 8, 8].
        which: The caption of each scene, int64 [N].
    """

    mixed: torch.Tensor
    time: torch.Tensor
    without: torch.Tensor
    told: torch.Tensor
    which: torch.Tensor

    def guided(self, rows: np.ndarray, guidance: torch.Tensor) -> torch.Tensor:
        """Returns the velocity with classifier-free guidance at the scales [B], [B, 16, 8, 8]."""
        return torch.lerp(self.without[rows], self.told[rows], guidance[:, None, None, None])


@torch.no_grad()
def _ask_teacher(
    pipeline: "StableDiffusionPipeline", latents: torch.Tensor, prompts: Prompts, *, seed: int
) -> _TeacherFlow:
    """Asks the teacher about every scene once, at flow times spread as the sampler's shifted steps are."""
    rng, count = stream_rng(seed, Stream.FLUX_TEACHER), len(latents)
    even = torch.from_numpy(rng.random(count, dtype=np.float32))
    time = FLOW_SHIFT * even / (1 + (FLOW_SHIFT - 1) * even)
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    mixed = torch.lerp(latents, noise, time[:, None, None, None])
    which = torch.from_numpy(rng.integers(0, PROMPTS_PER_SCENE, count))
    tokens = prompts.tokenize(pipeline.tokenizer, length=PROMPT_TOKENS)[torch.arange(count), which]
    empty = pipeline.tokenizer("", padding="max_length", max_length=PROMPT_TOKENS, return_tensors="pt").input_ids
    unet, text_encoder = pipeline.unet.eval(), pipeline.text_encoder.eval()
    blank = text_encoder(empty).last_hidden_state
    answers = []
    # with and without the caption in one batch, as a sampler does: half the calls
    with fast_arithmetic(torch.device("cpu"), precision="auto"):
        for rows in torch.arange(count).split(SCENES_AT_ONCE):
            states = text_encoder(tokens[rows]).last_hidden_state
            both = torch.cat([blank.expand_as(states), states])
            noised, times = mixed[rows].repeat(2, 1, 1, 1), time[rows].repeat(2) * 1000
            answers.append(unet(noised, times, encoder_hidden_states=both).sample.float().chunk(2))
    without, told = (torch.cat(parts) for parts in zip(*answers, strict=True))
    return _TeacherFlow(mixed, time, without, told, which)


class _Student:
    """The mini FLUX as the training loop sees it: latents and token ids in, velocity out."""

    def __init__(self, pipeline: "FluxPipeline", prompts: Prompts) -> None:
        self.models = (pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2)
        self.clip_tokens = prompts.tokenize(pipeline.tokenizer, length=PROMPT_TOKENS)
        self.t5_tokens = prompts.tokenize(pipeline.tokenizer_2, length=T5_TOKENS)
        self._pack, self._unpack = pipeline._pack_latents, pipeline._unpack_latents
        self._image_ids = pipeline._prepare_latent_image_ids(1, TOKEN_GRID, TOKEN_GRID, "cpu", torch.float32)

    def parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for model in self.models for parameter in model.parameters()]

    def train(self, mode: bool) -> None:
        for model in self.models:
            model.train(mode)

    def velocity(
        self, mixed: torch.Tensor, time: torch.Tensor, guidance: torch.Tensor, clip: torch.Tensor, t5: torch.Tensor
    ) -> torch.Tensor:
        """Returns [B, 16, 8, 8] for noised latents, flow times [B], scales [B] and both encoders' token ids."""
        transformer, text_encoder, text_encoder_2 = self.models
        predicted = transformer(
            hidden_states=self._pack(mixed, *mixed.shape),
            timestep=time,
            guidance=guidance,
            pooled_projections=text_encoder(clip).pooler_output,
            encoder_hidden_states=text_encoder_2(t5).last_hidden_state,
            txt_ids=torch.zeros(t5.shape[1], 3),
            img_ids=self._image_ids,
        ).sample.float()
        return self._unpack(predicted, 8 * TOKEN_GRID, 8 * TOKEN_GRID, 4)


def _train_transformer(
    pipeline: "FluxPipeline",
    teacher: "StableDiffusionPipeline",
    latents: torch.Tensor,
    prompts: Prompts,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    checkpoint: Checkpoint,
) -> None:
    """Matches the teacher's guided velocity at x_t = (1-t) x_0 + t noise.

    A reading loss on x_t - t v, the clean latents that a velocity amounts to, asks for the caption's digits.
    """
    student, examples = _Student(pipeline, prompts), _ask_teacher(teacher, latents, prompts, seed=seed)
    optimizer = build_adamw(student.parameters(), learning_rate=LEARNING_RATE, weight_decay=0.01)
    schedule = build_schedule(optimizer, kind="linear", steps=steps, warmup_steps=200)
    reader = train_latent_reader(latents, prompts.truth, steps=READING_STEPS, seed=seed)
    student.train(True)

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(latents), batch_size=batch_size, seed=seed)
        scales = stream_rng(seed, Stream.FLUX_GUIDANCE, index).uniform(*GUIDANCE_RANGE, len(rows))
        guidance = torch.from_numpy(scales.astype(np.float32))
        mixed, time, which = examples.mixed[rows], examples.time[rows], examples.which[rows]
        clip, t5 = student.clip_tokens[rows, which], student.t5_tokens[rows, which]
        velocity = student.velocity(mixed, time, guidance, clip, t5)
        flow = (velocity - examples.guided(rows, guidance)).square().mean()
        told = prompts.names_number[rows, which]
        drawn = mixed - time[:, None, None, None] * velocity
        reading = (reader.loss(drawn, prompts.truth, rows) * told).sum() / told.sum().clamp_min(1)
        return {"loss": flow + READING_WEIGHT * reading, "flow": flow, "reading": reading}

    run_training(
        step,
        optimizer,
        schedule,
        name="flux",
        steps=steps,
        checkpoint=checkpoint,
        after_step=lambda index: update_averages(optimizer, index),
    )
    swap_averages(optimizer)
    student.train(False)
