"""The mini models, built once through the real loading code."""

import pytest
import torch

from gmail_kedro.models.encoders.known_encoders import build_encoder

CPU = torch.device("cpu")


@pytest.fixture
def encoder():
    """A fresh mini CLIP; tests may change it."""
    return build_encoder("mini_clip", None, device=CPU)
