"""One run of a consumer: which captions a step sees, and its loss."""

from collections.abc import Callable

import numpy as np
import torch

from gmail_kedro.engine.batches import batch_rows
from gmail_kedro.interfaces import ImageTextEncoder
from gmail_kedro.method.alignment import sigmoid_alignment_loss, symmetric_loss
from gmail_kedro.params.downstream import RetrieverParams
from gmail_kedro.pipelines.downstream.examples import CaptionExamples, count_tokens


def captioner_step(
    examples: CaptionExamples, chosen: np.ndarray, *, batch_size: int, seed: int
) -> Callable[[int], dict[str, torch.Tensor]]:
    """Returns the step function: index to losses.

    Args:
        examples: Of a captioner that is trained in place.
        chosen: Rows that are trained on.
        batch_size: Captions a step.
        seed: Seeds the order of the captions.
    """

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(chosen), batch_size=batch_size, seed=seed)
        return {"loss": examples.loss(chosen[rows], index)}

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
    scale, bias = encoder.logit_scale, encoder.logit_bias

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = batch_rows(index, count=len(features), batch_size=params.training.batch_size, seed=seed)
        text, image, ids = encoder.encode_text(tokens[rows]), features[rows], image_ids[rows]
        same = ids[:, None] == ids[None]
        if bias is not None:
            return {"loss": sigmoid_alignment_loss(image, text, scale=scale, bias=bias, same_image=same)}
        return {"loss": symmetric_loss(image, text, temperature=1 / scale, same_image=same)}

    return step


@torch.no_grad()
def validation_loss(examples: CaptionExamples, held_out: np.ndarray, *, batch_size: int) -> float:
    """Returns the mean cross-entropy per token over held-out rows; not a number where there are none.

    Args:
        examples: Of a captioner in eval mode.
        held_out: Rows that were not trained on.
        batch_size: Captions at once.
    """
    total, count = 0.0, 0
    for start in range(0, len(held_out), batch_size):
        rows = held_out[start : start + batch_size]
        token_count = count_tokens(examples.tokens[rows])
        total += float(examples.loss(rows, None)) * token_count
        count += token_count
    return total / count if count else float(np.nan)
