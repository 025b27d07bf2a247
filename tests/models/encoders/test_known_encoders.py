"""Encoders: the real loading code on real formats, and clear errors."""

import json
import shutil

import pytest
import torch
from PIL import Image

from gmail_kedro.models.encoders.known_encoders import ENCODERS, build_encoder
from gmail_kedro.models.weight_sources import MissingWeightsError, UnknownModelError, packaged_weights

CPU = torch.device("cpu")


def test_mini_clip_keeps_the_contract(encoder):
    image = encoder.preprocess(Image.new("RGB", (50, 40), "red"))
    tokens = encoder.tokenize(["a red 7.", "a 42 on lined paper."])
    assert image.shape == (3, 32, 32) and tokens.shape == (2, 77)
    assert encoder.encode_image(image[None]).shape == (1, encoder.embed_dim) == (1, 128)
    assert encoder.encode_text(tokens).shape == (2, 128)
    towers = (encoder.image_tower, encoder.text_tower)
    assert not any(parameter.requires_grad for tower in towers for parameter in tower.parameters())


def test_open_clip_itself_loads_the_folder():
    import open_clip

    source = f"local-dir:{packaged_weights('clip')}"
    model, _, _ = open_clip.create_model_and_transforms(source)
    tokens = open_clip.get_tokenizer(source)(["a red 7."])
    assert model.encode_text(tokens).shape == (1, 128)


def test_long_texts_are_cut_counted_and_keep_their_end_token(encoder):
    texts = ["a red 7.", "seven " * 200, "ein Café, 犬 & „komisch“ !!"]
    tokens = encoder.tokenize(texts)
    end = int(tokens[0].max())
    assert encoder.count_truncated(texts) == 1
    assert int(tokens[1, -1]) == end and all(end in row for row in tokens)


def test_fingerprint_follows_weights_and_preprocessing(encoder, tmp_path):
    again = build_encoder("mini_clip", None, device=CPU)
    assert again.fingerprint == encoder.fingerprint
    folder = tmp_path / "other"
    shutil.copytree(packaged_weights("clip"), folder)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["preprocess_cfg"]["mean"] = [0.5, 0.5, 0.5]
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert build_encoder("mini_clip", str(folder), device=CPU).fingerprint != encoder.fingerprint


def test_unknown_name_lists_the_known():
    with pytest.raises(UnknownModelError, match="no encoder 'mini_clop'. Known names: .*mini_clip"):
        build_encoder("mini_clop", None, device=CPU)


def test_missing_folder_and_wrong_folder_say_what_was_expected(tmp_path):
    with pytest.raises(MissingWeightsError, match="which is not there"):
        build_encoder("mini_clip", str(tmp_path / "nowhere"), device=CPU)
    with pytest.raises(MissingWeightsError, match=r"open_clip_config.json is not there"):
        build_encoder("mini_clip", str(tmp_path), device=CPU)


def test_damaged_weights_are_an_error_never_random_weights(tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(packaged_weights("clip"), folder)
    weights = folder / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MissingWeightsError, match="could not be loaded"):
        build_encoder("mini_clip", str(folder), device=CPU)


def test_full_size_architecture_loads_a_checkpoint_file(tmp_path):
    """The paper's ViT-B/32 in its own format, with random weights saved by open_clip."""
    import open_clip
    from safetensors.torch import save_file

    spec = ENCODERS["clip_vit_b_32"]
    torch.manual_seed(0)
    model = open_clip.create_model(spec.architecture)
    path = tmp_path / "vit_b_32.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)
    encoder = build_encoder("clip_vit_b_32", str(path), device=CPU)
    assert encoder.embed_dim == 512 and encoder.context_length == 77
    assert torch.equal(encoder.projection, model.visual.proj)
