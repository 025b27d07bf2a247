"""Trains the autoencoder of the mini FLUX: a quarter of the mini Stable Diffusion's size, in the same latent space."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.mini.pretraining.pretrain_vae import LATENT_CHANNELS, to_unit
from gmail_kedro.mini.pretraining.run_training import run_training

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


LATENT_BLUR = 0.1
ENCODING_WEIGHT = 0.01


def build_flux_vae() -> "AutoencoderKL":
    """Returns an untrained f=4 autoencoder with 16 latent channels, without FLUX's absent 1x1 convolutions."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 24, 32),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def copy_vae(
    images: torch.Tensor, latents: torch.Tensor, *, steps: int, batch_size: int, seed: int, work: Path
) -> "AutoencoderKL":
    """Returns a small autoencoder that maps images to the latents of a larger one, and those back to images.

    Args:
        images: Training images, uint8 [N, 3, 32, 32].
        latents: What the larger autoencoder makes of them, [N, 16, 8, 8].
        steps: Optimizer steps.
        batch_size: Images a step.
        seed: Seeds the order of the images.
        work: Folder for the resumable training state.
    """
    vae = build_flux_vae().train()
    optimizer = build_adamw(vae.parameters(), learning_rate=4e-3, weight_decay=0.0)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=100)

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(seed, Stream.FLUX_VAE, index)
        rows = rng.integers(0, len(images), batch_size)
        batch, wanted = to_unit(images[rows]), latents[rows]
        blurred = wanted + LATENT_BLUR * torch.from_numpy(rng.standard_normal(wanted.shape, dtype=np.float32))
        rebuilt = vae.decode(blurred).sample.float()
        error = (rebuilt - batch).square().mean() + 0.5 * (rebuilt - batch).abs().mean()
        likelihood = vae.encode(batch).latent_dist.nll(wanted).mean() / wanted[0].numel()
        return {"loss": error + ENCODING_WEIGHT * likelihood, "decoding": error, "encoding": likelihood}

    facts = {"steps": str(steps), "seed": str(seed)}
    checkpoint = Checkpoint(work / "flux_vae.safetensors", facts, every=500)
    run_training(step, optimizer, schedule, name="flux vae", steps=steps, every=200, checkpoint=checkpoint)
    return vae.eval()
