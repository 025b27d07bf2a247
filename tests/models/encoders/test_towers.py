"""What every encoder promises beyond embeddings: pooled features, patch tokens, patch dropout, recomputation."""

import pytest
import torch

from gmail_kedro.models.student.adapters import TuningSpec, trainable_parameters, tune_tower
from gmail_kedro.models.weight_sources import packaged_weights

from ...precision import assert_equal_but_rounding

pytestmark = pytest.mark.usefixtures("attention_in_bfloat16")

LORA = TuningSpec(kind="lora", rank=2, alpha=4.0, dropout=0.0, targets=("attn",))


@pytest.fixture
def images():
    return torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_embeddings_are_open_clips_own_to_the_bit(encoder, images):
    import open_clip

    source = f"local-dir:{packaged_weights('clip')}"
    model = open_clip.create_model(source).eval().requires_grad_(False)
    tokens = open_clip.get_tokenizer(source)(["a red 7.", "42"])
    with torch.no_grad():
        assert torch.equal(encoder.encode_image(images), model.encode_image(images))
        assert_equal_but_rounding(encoder.encode_text(tokens), model.encode_text(tokens))  # padding is cut off
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(encoder.encode_image(images), model.encode_image(images))
    assert encoder.logit_scale == float(model.logit_scale.exp()) and encoder.logit_bias is None


def test_embedding_is_the_pooled_feature_projected(encoder, images):
    pooled, tokens = encoder.pool_image(images)
    assert pooled.shape == (5, encoder.pooled_dim) and tokens.shape == (5, 64, 128)
    assert torch.equal(pooled @ encoder.projection, encoder.encode_image(images))
    assert not encoder.projection.requires_grad


def test_fingerprint_of_the_shipped_clip_is_what_it_always_was(encoder):
    assert encoder.fingerprint.startswith("67769bb414586273098ead7170de30dd")


@pytest.mark.parametrize("wrapped", [False, True])
def test_patches_are_dropped_in_training_only(encoder, images, wrapped):
    if wrapped:
        encoder.image_tower = tune_tower(encoder.image_tower, LORA, owner="mini_clip", seed=0)
    encoder.drop_patches(0.75)
    assert encoder.pool_image(images)[1].shape[1] == 64
    encoder.image_tower.train()
    assert encoder.pool_image(images)[1].shape[1] == 16
    encoder.drop_patches(0.0)
    assert encoder.pool_image(images)[1].shape[1] == 64


@pytest.mark.parametrize("fraction", [-0.1, 1.0])
def test_dropping_all_patches_is_refused(encoder, fraction):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\). Got"):
        encoder.drop_patches(fraction)


def test_recomputed_activations_give_the_same_gradients(encoder, images):
    tower = encoder.image_tower = tune_tower(encoder.image_tower, LORA, owner="mini_clip", seed=0).train()
    with torch.no_grad():
        for parameter in trainable_parameters(tower):
            parameter.normal_(std=0.1)

    def gradients() -> list[torch.Tensor]:
        tower.zero_grad()
        encoder.encode_image(images).square().sum().backward()
        return [parameter.grad.clone() for parameter in trainable_parameters(tower)]

    plain = gradients()
    encoder.checkpoint_activations()
    for again, first in zip(gradients(), plain, strict=True):
        assert_equal_but_rounding(again, first)
