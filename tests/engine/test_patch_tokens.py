"""The tokens of a frozen tower: computed once where they fit, the same either way."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gmail_kedro.engine.patch_tokens import PatchTokens


class Pictures:
    """Pictures of one colour each, and how often each was read."""

    def __init__(self):
        self.reads: list[str] = []

    def read(self, key: str) -> bytes:
        self.reads.append(key)
        stream = io.BytesIO()
        Image.new("RGB", (2, 2), (int(key), 0, 0)).save(stream, format="PNG")
        return stream.getvalue()


def see(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.flatten(2).transpose(1, 2) / 3


def tokens_of(pictures: Pictures, limit_bytes: int) -> PatchTokens:
    return PatchTokens(
        pictures,
        ["10", "20", "10", "30"],
        preprocess=lambda image: torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float(),
        see=see,
        limit_bytes=limit_bytes,
    )


ONE = 4 * 3 * 2  # four patches of width three in half precision


@pytest.mark.parametrize(("limit_bytes", "is_kept"), [(3 * ONE, True), (3 * ONE - 1, False), (0, False)])
def test_all_pictures_are_kept_or_none(limit_bytes, is_kept):
    pictures = Pictures()
    tokens = tokens_of(pictures, limit_bytes)
    first = tokens[[0, 2, 3]]
    assert first.dtype == torch.float16 and first.shape == (3, 4, 3) and len(tokens) == 4
    assert torch.allclose(first[:, 0, 0].float(), torch.tensor([10.0, 10.0, 30.0]) / 3, atol=0.01)
    assert torch.equal(tokens[[3, 0]], first[[2, 0]])
    assert pictures.reads == (["10", "30"] if is_kept else ["10", "30", "30", "10"])
    assert tokens.kept_count == (2 if is_kept else 0)
