"""The shipped mini encoders that stand for real ones: found by name, movable as folders, and better than chance."""

import json
import shutil

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import draw_pool
from gmail_kedro.models.encoders.known_encoders import ENCODERS, build_encoder
from gmail_kedro.models.weight_sources import packaged_weights

CPU = torch.device("cpu")
MINI_ENCODERS = ("mini_long_clip", "mini_siglip", "mini_synclr", "mini_clip_vision")
LIMIT_BYTES = 4.5e6


@pytest.fixture(scope="module")
def scenes():
    return draw_pool(load_scans("test"), count=200, seed=5, pair_fraction=0.0)


def embed(encoder, pool) -> torch.Tensor:
    pixels = torch.stack([encoder.preprocess(Image.fromarray(one)) for one in pool.pixels])
    with torch.no_grad():
        return F.normalize(encoder.encode_image(pixels), dim=-1)


@pytest.mark.parametrize("name", MINI_ENCODERS)
def test_mini_encoder_is_found_by_name_and_in_a_copied_folder(name, tmp_path):
    encoder = build_encoder(name, None, device=CPU)
    shutil.copytree(packaged_weights(ENCODERS[name].packaged), tmp_path / "copy")
    assert build_encoder(name, str(tmp_path / "copy"), device=CPU).fingerprint == encoder.fingerprint
    image = encoder.preprocess(Image.new("RGB", (50, 40), "red"))
    assert encoder.encode_image(image[None]).shape == (1, encoder.embed_dim)


@pytest.mark.parametrize("name", MINI_ENCODERS)
def test_fingerprint_follows_the_preprocessing(name, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(packaged_weights(ENCODERS[name].packaged), folder)
    path, change = {
        "mini_clip_vision": ("preprocessor_config.json", {"image_mean": [0.5, 0.5, 0.5]}),
        "mini_synclr": ("config.json", {"image_size": 160}),
    }.get(name, ("open_clip_config.json", {"preprocess_cfg": {"mean": [0.4, 0.4, 0.4]}}))
    config = json.loads((folder / path).read_text())
    (folder / path).write_text(json.dumps(config | change))
    before = build_encoder(name, None, device=CPU).fingerprint
    assert build_encoder(name, str(folder), device=CPU).fingerprint != before


def test_mini_encoders_together_stay_small():
    folders = [packaged_weights(ENCODERS[name].packaged) for name in MINI_ENCODERS]
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*")) <= LIMIT_BYTES


@pytest.mark.parametrize(
    ("image", "text"), [("mini_siglip",) * 2, ("mini_long_clip",) * 2, ("mini_clip_vision", "mini_clip")]
)
def test_digits_of_unseen_handwriting_are_named(image, text, scenes):
    reader = build_encoder(text, None, device=CPU)
    with torch.no_grad():
        names = F.normalize(
            reader.encode_text(reader.tokenize([f"handwritten {digit}" for digit in range(10)])), dim=-1
        )
    named = (embed(build_encoder(image, None, device=CPU), scenes) @ names.T).argmax(1)
    truth = torch.tensor([scene.digits[0] for scene in scenes.scenes])
    assert float((named == truth).float().mean()) > 0.4


def test_synclr_puts_the_same_digit_together(scenes):
    features = embed(build_encoder("mini_synclr", None, device=CPU), scenes)
    truth = torch.tensor([scene.digits[0] for scene in scenes.scenes])
    nearest = (features @ features.T).fill_diagonal_(-1).argmax(1)
    assert float((truth[nearest] == truth).float().mean()) > 0.2
