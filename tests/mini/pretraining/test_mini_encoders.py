"""The mini Long-CLIP, SigLIP, SynCLR and CLIP vision tower: tiny runs through the real code, and losses."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from gmail_kedro.interfaces import Decoded
from gmail_kedro.mini.pretraining.pretrain_clip import PackagedClip
from gmail_kedro.mini.pretraining.pretrain_clip_vision import (
    PackagedClipVision,
    build_clip_vision,
    pretrain_clip_vision,
)
from gmail_kedro.mini.pretraining.pretrain_long_clip import (
    PackagedLongClip,
    long_clip_config,
    main_components,
    openai_names,
    pretrain_long_clip,
)
from gmail_kedro.mini.pretraining.pretrain_siglip import pretrain_siglip, siglip_config, sigmoid_loss
from gmail_kedro.mini.pretraining.pretrain_synclr import (
    PackagedSynclr,
    change_view,
    draw_generated_images,
    multi_positive_loss,
    pretrain_synclr,
)
from gmail_kedro.mini.pretraining.tokenizers import load_clip_tokenizer, load_siglip_tokenizer, train_siglip_tokenizer
from gmail_kedro.mini.pretraining.training_examples import (
    copying_loss,
    draw_examples,
    matching_loss,
    narrow_targets,
    standardize,
)
from gmail_kedro.mini.world.caption_grammar import shuffle_sentences
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.encoders.open_clip_encoder import build_clip
from gmail_kedro.models.weight_sources import packaged_weights
from gmail_kedro.whole_files import DamagedFileError

CPU = torch.device("cpu")
TINY = {"scene_count": 20, "batch_size": 4, "seed": 0}


@pytest.fixture(scope="module")
def teacher():
    return build_encoder("mini_clip", None, device=CPU)


class Painter:
    """A generator that paints one colour for each prompt."""

    revision = "painted-by-hand"

    def __init__(self) -> None:
        self.calls = 0

    def generate(self, prompts, seeds):
        self.calls += 1
        return [
            Decoded(Image.new("RGB", (32, 32), (len(prompt) % 256, seed % 256, 7)))
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_tiny_clip_vision_is_packaged_so_that_it_is_loaded_by_name_and_long_clip_starts_from_it(teacher, tmp_path):
    model = pretrain_clip_vision(teacher, steps=2, **TINY, work=tmp_path / "work")
    assert same(model, pretrain_clip_vision(teacher, steps=2, **TINY, work=tmp_path / "other"))
    tokenizer = load_clip_tokenizer(packaged_weights("clip"))
    long = pretrain_long_clip(model, tokenizer, steps=(2, 2), **TINY, work=tmp_path / "work")
    assert same(long, pretrain_long_clip(model, tokenizer, steps=(2, 2), **TINY, work=tmp_path / "work"))
    PackagedClipVision(model).save_pretrained(tmp_path / "clip_vision")
    PackagedLongClip(long, tokenizer).save_pretrained(tmp_path / "long_clip")
    for name in ("clip_vision", "long_clip"):
        encoder = build_encoder(f"mini_{name}", str(tmp_path / name), device=CPU)
        assert encoder.encode_image(torch.zeros(1, 3, 32, 32)).shape == (1, 128)


def test_clip_vision_under_openais_names_sees_the_same():
    torch.manual_seed(0)
    vision = build_clip_vision(128).eval()
    clip = build_clip(long_clip_config(774)).eval()
    clip.visual.load_state_dict(openai_names(vision))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(clip.encode_image(images), vision(images).image_embeds, atol=1e-5)


def test_tiny_siglip_is_packaged_so_that_it_is_loaded_by_name(teacher, tmp_path):
    tokenizer = train_siglip_tokenizer(["a red 7", "scan"], context_length=64)
    model = pretrain_siglip(teacher, tokenizer, steps=(2, 2), **TINY, work=tmp_path / "work")
    assert same(model, pretrain_siglip(teacher, tokenizer, steps=(2, 2), **TINY, work=tmp_path / "other"))
    PackagedClip(model, tokenizer, siglip_config(len(tokenizer))).save_pretrained(tmp_path / "siglip")
    encoder = build_encoder("mini_siglip", str(tmp_path / "siglip"), device=CPU)
    assert encoder.encode_text(encoder.tokenize(["A red 7!"])).shape == (1, 64)
    assert encoder.tokenize(["A red 7!"]).tolist() == encoder.tokenize(["a red 7"]).tolist()


def test_tiny_synclr_is_packaged_so_that_it_is_loaded_by_name(teacher, tmp_path):
    painter = Painter()
    generated = draw_generated_images(painter, caption_count=6, seed=0, work=tmp_path)
    assert generated.shape == (6, 4, 3, 32, 32) and generated.dtype == torch.uint8
    assert torch.equal(draw_generated_images(painter, caption_count=6, seed=0, work=tmp_path), generated)
    kept = next(tmp_path.glob("synclr_pictures_*.safetensors"))
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    with pytest.raises(DamagedFileError, match=r"synclr_pictures_.* is damaged.*Delete it"):
        draw_generated_images(painter, caption_count=6, seed=0, work=tmp_path)
    assert painter.calls == 1
    settings = {"steps": 2, "batch_size": 8, "seed": 0}
    tower = pretrain_synclr(teacher, generated, **settings, work=tmp_path / "work")
    assert same(tower, pretrain_synclr(teacher, generated, **settings, work=tmp_path / "other"))
    PackagedSynclr(tower).save_pretrained(tmp_path / "synclr")
    encoder = build_encoder("mini_synclr", str(tmp_path / "synclr"), device=CPU)
    assert encoder.encode_image(torch.zeros(1, 3, 128, 128)).shape == (1, 64)


def test_pixels_in_training_are_those_the_preprocessor_gives_the_tower(teacher, tmp_path):
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    drawn = Image.fromarray(pixels[0].permute(1, 2, 0).numpy())
    PackagedSynclr(
        pretrain_synclr(teacher, pixels.expand(4, 4, 3, 32, 32), steps=1, batch_size=8, seed=0, work=tmp_path)
    ).save_pretrained(tmp_path / "s")
    synclr = build_encoder("mini_synclr", str(tmp_path / "s"), device=CPU)
    assert float((synclr.preprocess(drawn) - standardize(pixels, size=128)[0]).abs().mean()) < 0.02
    PackagedClipVision(build_clip_vision(8)).save_pretrained(tmp_path / "v")
    vision = build_encoder("mini_clip_vision", str(tmp_path / "v"), device=CPU)
    assert torch.allclose(vision.preprocess(drawn), standardize(pixels)[0], atol=1e-4)


def test_examples_know_the_scenes_and_the_teachers_embeddings(teacher):
    examples = draw_examples(teacher, scene_count=3, seed=0)
    drawn = Image.fromarray(examples.images[1].permute(1, 2, 0).numpy())
    own = F.normalize(teacher.encode_image(teacher.preprocess(drawn)[None]), dim=-1)
    assert torch.allclose(examples.targets[1], own[0], atol=0.02)
    assert examples.facts[:, 0].tolist() == [scene.digits[0] for scene in examples.scenes]


def test_copying_loss_is_small_for_a_copy_whatever_its_norm():
    targets = torch.eye(6)
    assert float(copying_loss(5 * targets, targets)) < 1e-6
    assert float(copying_loss(targets.roll(1, 0), targets)) > 4


def test_matching_loss_is_clips():
    image, text = torch.randn(5, 4), torch.randn(5, 4)
    cosines = 3 * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    rows = -torch.stack([cosines[i, i] - cosines[i].logsumexp(0) for i in range(5)]).mean()
    columns = -torch.stack([cosines[i, i] - cosines[:, i].logsumexp(0) for i in range(5)]).mean()
    assert torch.allclose(matching_loss(image, text, torch.tensor(3.0)), (rows + columns) / 2, atol=1e-6)


def test_sigmoid_loss_asks_every_pair():
    image, text = torch.randn(3, 4), torch.randn(3, 4)
    cosines = F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    total = 0.0
    for i in range(3):
        for j in range(3):
            logit = 2.0 * float(cosines[i, j]) - 1.0
            total -= math.log(1 / (1 + math.exp(-logit if i == j else logit)))
    loss = sigmoid_loss(image, text, torch.tensor(2.0), torch.tensor(-1.0))
    assert float(loss) == pytest.approx(total / 3, abs=1e-5)


def test_narrow_targets_keep_the_cosines_of_what_lies_in_few_directions():
    rng = torch.Generator().manual_seed(0)
    targets = F.normalize(torch.randn(30, 3, generator=rng) @ torch.randn(3, 8, generator=rng), dim=-1)
    narrow = narrow_targets(targets, 3)
    assert narrow.shape == (30, 3)
    assert torch.allclose(narrow @ narrow.T, targets @ targets.T, atol=1e-5)


def test_multi_positive_loss_is_the_mean_over_the_other_images_of_the_caption():
    features, owners = torch.randn(6, 4), torch.tensor([0, 0, 0, 1, 1, 1])
    unit = F.normalize(features, dim=-1)
    terms = []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        denominator = torch.stack([unit[i] @ unit[j] / 0.1 for j in others]).logsumexp(0)
        terms += [denominator - unit[i] @ unit[j] / 0.1 for j in others if owners[j] == owners[i]]
    assert torch.allclose(multi_positive_loss(features, owners, temperature=0.1), torch.stack(terms).mean(), atol=1e-5)


def test_main_components_keep_what_differs_most():
    rng = torch.Generator().manual_seed(0)
    strong = torch.randn(20, 1, generator=rng) * 10 @ torch.eye(5)[:1]
    features = strong + 0.01 * torch.randn(20, 5, generator=rng) + 3
    kept = main_components(features, 1)
    assert torch.allclose(kept, strong + features.mean(0) - strong.mean(0), atol=0.1)
    assert torch.allclose(main_components(features, 5), features, atol=1e-4)


def test_shuffled_sentences_say_the_same():
    text = "The paper is plain. There is one digit, a five. It is red."
    shuffled = shuffle_sentences(text, np.random.default_rng(2))
    assert shuffled != text and sorted(shuffled.removesuffix(".").split(". ")) == sorted(
        text.removesuffix(".").split(". ")
    )


def test_views_keep_the_image_but_for_place_and_light():
    images = torch.full((2, 3, 32, 32), 100, dtype=torch.uint8)
    views = change_view(images, np.random.default_rng(0)).float()
    assert views.std((1, 2, 3)).max() == 0 and 85 <= views.min() <= views.max() <= 115


def test_siglip_tokenizer_round_trip(tmp_path: Path):
    tokenizer = train_siglip_tokenizer(["the number 42 in red ink"] * 3, context_length=64)
    tokenizer.save_pretrained(tmp_path)
    again = load_siglip_tokenizer(tmp_path)
    text = "the number 17 in xylophone ink"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.decode(again(text).input_ids, skip_special_tokens=True) == text
