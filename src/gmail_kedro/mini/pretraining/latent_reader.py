"""Reads digits off the autoencoder's latents, so that the U-Net can be told which digit it drew.

A caption's digit changes a flow-matching loss by a few parts in a hundred, so obeying it is learnt last. A
cross-entropy on what the predicted clean latents show says the same thing loudly. The judge of the finished
generator is another network, on pixels (``reader``).
"""

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.mini.pretraining.digit_reader import Reading
from gmail_kedro.mini.pretraining.run_training import run_training

BLUR = 0.5


class LatentReader(torch.nn.Module):
    """Two convolutions and a linear head for each digit; input latents [N, C, 8, 8].

    Args:
        channels: Latent channels C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 96, 3, padding=1),
            torch.nn.GELU(),
            torch.nn.Conv2d(96, 96, 3, padding=1, stride=2),
            torch.nn.GELU(),
            torch.nn.Flatten(),
            torch.nn.Linear(96 * 16, 128),
            torch.nn.GELU(),
        )
        self.heads = torch.nn.ModuleList([torch.nn.Linear(128, 10), torch.nn.Linear(128, 11)])

    def loss(self, latents: torch.Tensor, truth: Reading, rows: np.ndarray) -> torch.Tensor:
        """Returns the cross-entropy of both digits for each row, [B].

        Args:
            latents: [B, C, 8, 8].
            truth: The digits of all scenes.
            rows: The scene of each latent.
        """
        features = self.body(latents)
        first, second = (head(features).float() for head in self.heads)
        return F.cross_entropy(first, truth.first[rows], reduction="none") + F.cross_entropy(
            second, truth.second[rows], reduction="none"
        )


def train_latent_reader(latents: torch.Tensor, truth: Reading, *, steps: int, seed: int) -> LatentReader:
    """Returns a frozen reader trained on clean and slightly noisy latents of real scenes.

    Args:
        latents: [N, C, 8, 8], standardised.
        truth: The digits of the N scenes.
        steps: Optimizer steps of 128 scenes.
        seed: Seeds weights, order and noise.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = LatentReader(latents.shape[1]).train()
    optimizer = build_adamw(reader.parameters(), learning_rate=2e-3, weight_decay=0.05)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=50)

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(seed, Stream.LATENT_READER, index)
        rows = rng.integers(0, len(latents), 128)
        blur = BLUR * rng.random((128, 1, 1, 1)) * rng.standard_normal((128, *latents.shape[1:]))
        return {"loss": reader.loss(latents[rows] + torch.from_numpy(blur.astype(np.float32)), truth, rows).mean()}

    run_training(step, optimizer, schedule, name="latent reader", steps=steps, clip_norm=5.0)
    return reader.eval().requires_grad_(False)
