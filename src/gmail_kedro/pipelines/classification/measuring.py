"""What a fine-tuned classifier says of the pictures of a set."""

import numpy as np
import torch
from tqdm import tqdm

from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.interfaces import LabelledImages
from gmail_kedro.models.encoders.classifier import measuring_transform
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.params.fine_tuning import FineTuningParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.classification.pictures import Pictures, load_batches


@torch.no_grad()
def predict_classes(
    model: torch.nn.Module, encoder: TowerEncoder, found: LabelledImages, params: FineTuningParams, run: RunParams
) -> np.ndarray:
    """Returns the class with the largest logit of each picture that is measured on, int64 [N].

    Args:
        model: The classifier, in eval mode.
        encoder: The route it was trained on.
        found: The set.
        params: How pictures are cut and loaded.
        run: Batch size and precision.

    Raises:
        FileNotFoundError: If a picture is missing.
        ValueError: If one cannot be decoded; names it.
    """
    device = next(model.parameters()).device
    pictures = Pictures(found.images, found.task.labels, measuring_transform(encoder, params), seed=0)
    starts = range(0, len(pictures), run.image_batch_size)
    places = [[(0, row) for row in range(start, min(start + run.image_batch_size, len(pictures)))] for start in starts]
    loaded = load_batches(pictures, places, workers=params.loader_workers)
    predicted = []
    with fast_arithmetic(device, precision=run.precision):
        for images, _ in tqdm(loaded, f"Classifying {found.name}", total=len(places), disable=None):
            predicted.append(model(images.to(device)).argmax(dim=1).cpu().numpy())
    return np.concatenate(predicted)
