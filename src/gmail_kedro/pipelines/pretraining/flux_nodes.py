"""Nodes that train and measure the mini FLUX."""

from pathlib import Path

from gmail_kedro.interfaces import SavesItself
from gmail_kedro.params.pretraining import PretrainingParams


def train_flux(mini_stable_diffusion: Path, checkpoints: Path, params: PretrainingParams) -> SavesItself:
    """Returns the mini FLUX in float16."""
    import torch

    from gmail_kedro.mini.pretrain_flux import load_teacher, pretrain_flux

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
    from gmail_kedro.models.generators.sampling import Sampling
    from gmail_kedro.pipelines.pretraining.cards import flux_card
    from gmail_kedro.pipelines.pretraining.measuring import measure_generator

    sampling = Sampling(steps=params.flux_sampling_steps, guidance=params.flux_sampling_guidance, resolution=32)
    return flux_card(measure_generator("mini_flux", mini_flux, mini_reader, sampling), params)
