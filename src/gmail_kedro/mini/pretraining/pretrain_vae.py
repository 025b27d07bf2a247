"""Trains the autoencoder of the mini Stable Diffusion: f=4, 16 latent channels, standardised latents."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.mini.pretraining.run_training import run_training

if TYPE_CHECKING:
    from diffusers import AutoencoderKL


LATENT_CHANNELS = 16
KL_WEIGHT = 1e-5


def train_vae(images: torch.Tensor, *, steps: int, batch_size: int, seed: int, work: Path) -> "AutoencoderKL":
    """Returns an autoencoder whose latents have zero mean and unit variance in every channel.

    Args:
        images: Training images, uint8 [N, 3, 32, 32].
        steps: Optimizer steps.
        batch_size: Images a step.
        seed: Seeds the order of the images.
        work: Folder for the resumable training state.
    """
    vae = build_vae().train()
    optimizer = build_adamw(vae.parameters(), learning_rate=2e-3, weight_decay=0.0)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=100)

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(seed, Stream.VAE, index)
        batch = to_unit(images[rng.integers(0, len(images), batch_size)])
        posterior = vae.encode(batch).latent_dist
        rebuilt = vae.decode(posterior.mode() + 0.05 * torch.randn_like(posterior.mode())).sample.float()
        error = (rebuilt - batch).square().mean() + 0.5 * (rebuilt - batch).abs().mean()
        return {"loss": error + KL_WEIGHT * posterior.kl().mean()}

    checkpoint = Checkpoint(work / "vae.safetensors", {"steps": str(steps), "seed": str(seed)}, every=500)
    run_training(step, optimizer, schedule, name="vae", steps=steps, every=200, checkpoint=checkpoint)
    _whiten_latents(vae.eval(), images[:2048])
    return vae


@torch.no_grad()
def _whiten_latents(vae: "AutoencoderKL", images: torch.Tensor) -> None:
    """Folds a per-channel affine map into the 1x1 convolutions around the latents, so that they are standardised."""
    latents = encode_latents(vae, images)
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    enter, leave = vae.quant_conv, vae.post_quant_conv
    leave.bias.add_(leave.weight[:, :, 0, 0] @ mean)
    leave.weight.mul_(deviation[None, :, None, None])
    enter.weight[:LATENT_CHANNELS].div_(deviation[:, None, None, None])
    enter.bias[:LATENT_CHANNELS].sub_(mean).div_(deviation)
    enter.bias[LATENT_CHANNELS:].sub_(2 * deviation.log())


@torch.no_grad()
def encode_latents(vae: "AutoencoderKL", images: torch.Tensor) -> torch.Tensor:
    """Returns the most likely latents of uint8 images: float32 [N, 16, 8, 8]."""
    parts = [vae.encode(to_unit(part)).latent_dist.mode().float() for part in images.split(256)]
    return torch.cat(parts)


def build_vae() -> "AutoencoderKL":
    """Returns an untrained f=4 autoencoder with 16 latent channels for 32x32 images."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(16, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def to_unit(images: torch.Tensor) -> torch.Tensor:
    """Maps uint8 pixels to [-1, 1]."""
    return images.float() / 127.5 - 1
