"""One alignment run: which pairs a step sees, and the loss it minimises."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from gmail_kedro.engine.batching import batch_rows
from gmail_kedro.engine.inference import PixelBatches
from gmail_kedro.interfaces import ImageTextEncoder
from gmail_kedro.method.alignment import alignment_loss, embedding_moments, moment_loss
from gmail_kedro.params import AlignmentParams


@dataclass(frozen=True)
class TrainingPairs:
    """What the alignment trains on, row by row.

    Attributes:
        pixels: The generated pictures, N of them.
        real: Teacher embeddings of the paired photographs, float32 [N, D].
        image_ids: A number for each row's photograph, int64 [N]; equal numbers, equal photographs.
    """

    pixels: PixelBatches
    real: torch.Tensor
    image_ids: torch.Tensor


def alignment_step(
    student: ImageTextEncoder, pairs: TrainingPairs, params: AlignmentParams, *, seed: int, device: torch.device
) -> Callable[[int], dict[str, torch.Tensor]]:
    """Returns the step function: index to losses.

    Args:
        student: The encoder whose image tower carries the adapter.
        pairs: Generated pictures with the teacher's view of their photographs.
        params: Objective, temperature, weights, batch size.
        seed: Seeds the order of the pairs.
        device: Where the student is.
    """
    real = pairs.real.to(device)
    image_ids = pairs.image_ids.to(device)
    _, first_rows = np.unique(pairs.image_ids.numpy(), return_index=True)
    mean, covariance = embedding_moments(real[first_rows])

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(real), batch_size=params.batch_size, seed=seed)
        generated = student.encode_image(pairs.pixels[rows].to(device)).float()
        ids = image_ids[rows]
        same_image = ids[:, None] == ids[None, :] if params.mask_same_image else None
        eq1 = alignment_loss(generated, real[rows], temperature=params.temperature, same_image=same_image)
        if params.objective == "eq1":
            return {"loss": eq1}
        moments = moment_loss(generated, mean, covariance)
        return {"loss": eq1 + params.moment_weight * moments, "eq1": eq1, "moments": moments}

    return step
