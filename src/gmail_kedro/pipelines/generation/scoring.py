"""Caption scores for the quality gate: the cosine of an image and its caption by the run's encoder."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.generated_sets.quality_gate import Scorer
from gmail_kedro.params.run import RunParams

if TYPE_CHECKING:
    from PIL.Image import Image


def scorer_name(run: RunParams) -> str:
    """Returns the name of the encoder that gives the scores, and where it is from."""
    return run.encoder if run.encoder_path is None else f"{run.encoder} of {run.encoder_path}"


def identify_scorer(run: RunParams) -> str:
    """Returns the encoder's name and the first of its fingerprint: a set is not gone on with under another encoder.

    The encoder is loaded for it; a folder keeps its name when its weights, configuration or tokenizer change.
    """
    from gmail_kedro.models.encoders.known_encoders import build_encoder

    encoder = build_encoder(run.encoder, run.encoder_path, device=torch.device("cpu"))
    return f"{scorer_name(run)} ({encoder.fingerprint[:12]})"


def build_scorer(run: RunParams) -> Scorer:
    """Returns a function from images and their captions to cosines in [-1, 1], float32 of shape [B].

    Args:
        run: The encoder, its device and precision.

    Raises:
        ValueError: If the encoder has no text tower.
    """
    from gmail_kedro.hardware import fast_arithmetic, resolve_device
    from gmail_kedro.models.encoders.known_encoders import build_encoder

    device = resolve_device(run.device)
    encoder = build_encoder(run.encoder, run.encoder_path, device=device)
    if encoder.text_tower is None:
        raise ValueError(
            f"quality.min_caption_score needs an encoder that reads captions; {run.encoder!r} is vision-only. "
            "Set it to null, or choose another run.encoder."
        )

    def score(images: Sequence["Image"], captions: Sequence[str]) -> np.ndarray:
        pixels = torch.stack([encoder.preprocess(image) for image in images]).to(device)
        with torch.no_grad(), fast_arithmetic(device, precision=run.precision):
            seen = F.normalize(encoder.encode_image(pixels).float(), dim=1)
            texts = F.normalize(encoder.encode_text(encoder.tokenize(captions).to(device)).float(), dim=1)
        cosines: np.ndarray = (seen * texts).sum(dim=1).cpu().numpy()
        return cosines

    return score
