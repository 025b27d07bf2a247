"""One run of a consumer: which captions a step sees, and its loss."""

from collections.abc import Callable

import numpy as np
import torch

from gmail_kedro.engine.batching import batch_rows
from gmail_kedro.interfaces import ImageTextEncoder
from gmail_kedro.method.alignment import sigmoid_alignment_loss, symmetric_loss
from gmail_kedro.params import DownstreamParams, RetrieverParams
from gmail_kedro.zoo.captioner import IGNORED, Captioner


def captioner_step(
    captioner: Captioner,
    features: torch.Tensor,
    tokens: torch.Tensor,
    params: DownstreamParams,
    *,
    seed: int,
    device: torch.device,
) -> Callable[[int], dict[str, torch.Tensor]]:
    """Returns the step function: index to losses.

    Args:
        captioner: Trained in place.
        features: Image embeddings, float32 [N, D].
        tokens: Token ids of the captions, [N, T], padded with -100.
        params: Batch size.
        seed: Seeds the order of the captions.
        device: Where the captioner is.
    """
    features, tokens = features.to(device), tokens.to(device)

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(features), batch_size=params.batch_size, seed=seed)
        return {"loss": captioner.loss(features[rows], tokens[rows])}

    return step


def retriever_step(
    encoder: ImageTextEncoder,
    features: torch.Tensor,
    tokens: torch.Tensor,
    image_ids: torch.Tensor,
    params: RetrieverParams,
    *,
    seed: int,
    device: torch.device,
) -> Callable[[int], dict[str, torch.Tensor]]:
    """Returns the step function of the text tower: CLIP's contrast of its texts with fixed image embeddings.

    Args:
        encoder: Its text tower is trained in place.
        features: Image embeddings, float32 [N, D].
        tokens: Token ids of the captions, [N, L].
        image_ids: Photograph of each row, int64 [N]; others of one photograph are no negatives.
        params: Batch size.
        seed: Seeds the order of the captions.
        device: Where the encoder is.
    """
    features, tokens, image_ids = features.to(device), tokens.to(device), image_ids.to(device)
    scale, bias = encoder.contrast.scale, encoder.contrast.bias

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(features), batch_size=params.batch_size, seed=seed)
        text, image, ids = encoder.encode_text(tokens[rows]), features[rows], image_ids[rows]
        same = ids[:, None] == ids[None]
        if bias is not None:
            return {"loss": sigmoid_alignment_loss(image, text, scale=scale, bias=bias, same_image=same)}
        return {"loss": symmetric_loss(image, text, temperature=1 / scale, same_image=same)}

    return step


@torch.no_grad()
def validation_loss(
    captioner: Captioner, features: torch.Tensor, tokens: torch.Tensor, *, batch_size: int, device: torch.device
) -> float:
    """Returns the mean cross-entropy per token over held-out pairs.

    Args:
        captioner: In eval mode.
        features: Image embeddings, float32 [N, D].
        tokens: Token ids [N, T], padded with -100.
        batch_size: Captions at once.
        device: Where the captioner is.
    """
    total, count = 0.0, 0
    for start in range(0, len(features), batch_size):
        part = slice(start, start + batch_size)
        words = int((tokens[part] != IGNORED).sum())
        total += float(captioner.loss(features[part].to(device), tokens[part].to(device))) * words
        count += words
    return total / count if count else float(np.nan)
