"""Every family beside CLIP, from tiny checkpoints in exactly the published layout."""

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from gmail_kedro.models.encoders.known_encoders import ENCODERS, build_encoder
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.student.adapters import TuningSpec, trainable_parameters, tune_tower
from gmail_kedro.models.weight_sources import MissingWeightsError

from ...precision import assert_equal_but_rounding
from ..tiny import FAMILIES, SAVE, TEXTS, promising_nothing

CPU = torch.device("cpu")
VISION_ONLY = ("synclr_vit_b_16", "clip_vision_b_32")


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing(*FAMILIES):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("families")
    for name, family in FAMILIES.items():
        SAVE[family](root / name)
    return {name: root / name for name in FAMILIES}


@pytest.fixture(params=FAMILIES)
def tiny(request, folders) -> TowerEncoder:
    return build_encoder(request.param, str(folders[request.param]), device=CPU)


def draw_images(encoder: TowerEncoder, count: int = 4) -> torch.Tensor:
    side = encoder.preprocess(Image.new("RGB", (40, 50))).shape[-1]
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def tune(encoder: TowerEncoder) -> torch.nn.Module:
    """Puts LoRA with both factors away from zero into all of the family's targets."""
    spec = TuningSpec(kind="lora", rank=2, alpha=4.0, dropout=0.0, targets=encoder.lora_targets)
    encoder.image_tower = tune_tower(encoder.image_tower, spec, owner=encoder.name, seed=0)
    with torch.no_grad():
        for parameter in trainable_parameters(encoder.image_tower):
            parameter.normal_(std=0.1)
    return encoder.image_tower


def test_contract_holds(tiny):
    images = draw_images(tiny)
    pooled, tokens = tiny.pool_image(images)
    assert pooled.shape == (4, tiny.pooled_dim) and tokens.shape[:2] == (4, 64)
    assert tiny.encode_image(images).shape == (4, tiny.embed_dim)
    assert tiny.preprocess(Image.new("RGB", (40, 50), "red")).dtype == torch.float32
    assert tiny.block_count == (6 if tiny.block_pattern == "blocks" else 4)
    assert not any(parameter.requires_grad for parameter in tiny.image_tower.parameters())


def test_texts_are_read_or_refused(tiny):
    if tiny.name in VISION_ONLY:
        assert tiny.text_tower is None and tiny.context_length == 0
        for read in (tiny.tokenize, tiny.count_truncated):
            with pytest.raises(ValueError, match=f"'{tiny.name}' has no text tower: it reads images only"):
                read(TEXTS)
        with pytest.raises(ValueError, match="has no text tower"):
            tiny.encode_text(torch.zeros(1, 4, dtype=torch.int64))
        return
    tokens = tiny.tokenize(TEXTS)
    assert tokens.shape == (2, tiny.context_length)
    assert tiny.encode_text(tokens).shape == (2, tiny.embed_dim)


@pytest.mark.parametrize("name", ["long_clip_b", "siglip_vit_b_16"])
def test_truncation_is_counted_at_the_models_own_length(folders, name):
    encoder = build_encoder(name, str(folders[name]), device=CPU)
    assert encoder.context_length == {"long_clip_b": 248, "siglip_vit_b_16": 64}[name]
    fits = "7 " * (encoder.context_length - (2 if name == "long_clip_b" else 1))
    assert encoder.count_truncated([fits, f"{fits} 7", "7"]) == 1
    end = int(encoder.tokenize(["7"])[0, -1])
    assert int(encoder.tokenize([f"{fits} 7"])[0, -1]) == end


def test_every_lora_tensor_of_the_familys_targets_gets_a_gradient(tiny):
    tower = tune(tiny)
    tiny.encode_image(draw_images(tiny)).square().sum().backward()
    names = [name for name, _ in tower.named_parameters() if "lora_" in name]
    assert len(names) >= 2 * tiny.block_count * len(tiny.lora_targets)
    for name, parameter in tower.named_parameters():
        if "lora_" in name:
            assert parameter.grad is not None and float(parameter.grad.abs().sum()) > 0, name
        else:
            assert parameter.grad is None, name


def test_recomputed_activations_give_the_same_gradients(tiny):
    tower = tune(tiny).train()
    images = draw_images(tiny)

    def gradients() -> list[torch.Tensor]:
        tower.zero_grad()
        tiny.encode_image(images).square().sum().backward()
        return [parameter.grad.clone() for parameter in trainable_parameters(tower)]

    plain = gradients()
    tiny.checkpoint_activations()
    for again, first in zip(gradients(), plain, strict=True):
        assert_equal_but_rounding(again, first)


def test_lora_can_be_kept_to_some_blocks(tiny):
    spec = TuningSpec("lora", 2, 4.0, 0.0, tiny.lora_targets, blocks=(1,), block_pattern=tiny.block_pattern)
    tower = tune_tower(tiny.image_tower, spec, owner=tiny.name, seed=0)
    names = [name for name, _ in tower.named_parameters() if "lora_" in name]
    assert names and all(f"{tiny.block_pattern}.1." in name for name in names)


def test_patches_are_dropped_in_training_or_the_family_says_it_cannot(tiny):
    if tiny.name == "clip_vision_b_32":
        with pytest.raises(ValueError, match="'clip_vision_b_32' cannot drop patches"):
            tiny.drop_patches(0.5)
        return
    images = draw_images(tiny)
    tiny.drop_patches(0.5)
    assert tiny.pool_image(images)[1].shape[1] == 64
    tiny.image_tower.train()
    assert tiny.pool_image(images)[1].shape[1] == 32


def test_embeddings_are_the_librarys_own_to_the_bit(folders):
    import open_clip
    import timm
    from transformers import CLIPVisionModelWithProjection

    built = {name: build_encoder(name, str(folder), device=CPU) for name, folder in folders.items()}
    images = {name: draw_images(encoder) for name, encoder in built.items()}
    siglip = open_clip.create_model(f"local-dir:{folders['siglip_vit_b_16']}").eval().requires_grad_(False)
    stored = torch.load(folders["synclr_vit_b_16"] / "synclr_vit_b_16.pth", weights_only=True)["model"]
    trunk = timm.create_model("test_vit", num_classes=0, global_pool="token").eval().requires_grad_(False)
    trunk.load_state_dict({name: stored[f"module.visual.{name}"] for name in trunk.state_dict()})
    vision = CLIPVisionModelWithProjection.from_pretrained(folders["clip_vision_b_32"], dtype=torch.float32).eval()
    own = {
        "siglip_vit_b_16": siglip.encode_image,
        "synclr_vit_b_16": trunk,
        "clip_vision_b_32": lambda pixels: vision(pixels).image_embeds,
    }
    with torch.no_grad():
        for name, encode in own.items():
            assert torch.equal(built[name].encode_image(images[name]), encode(images[name])), name
        tokens = built["siglip_vit_b_16"].tokenize(TEXTS)
        assert torch.equal(built["siglip_vit_b_16"].encode_text(tokens), siglip.encode_text(tokens))


def test_siglip_reads_cosines_with_scale_and_bias(folders):
    encoder = build_encoder("siglip_vit_b_16", str(folders["siglip_vit_b_16"]), device=CPU)
    assert encoder.logit_bias == -10.0 and encoder.logit_scale > 1


def test_clip_vision_gives_the_patch_tokens_llava_reads(folders):
    from transformers import CLIPVisionModel

    encoder = build_encoder("clip_vision_b_32", str(folders["clip_vision_b_32"]), device=CPU)
    images = draw_images(encoder)
    vision = CLIPVisionModel.from_pretrained(folders["clip_vision_b_32"], dtype=torch.float32).eval()
    with torch.no_grad():
        states = vision(images, output_hidden_states=True).hidden_states
        assert torch.equal(encoder.pool_image(images)[1], states[-2][:, 1:])


@pytest.mark.parametrize("name", FAMILIES)
def test_damaged_weights_are_an_error_never_random_weights(folders, name, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(folders[name], folder)
    weights = max(folder.iterdir(), key=lambda path: path.stat().st_size)
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(MissingWeightsError, match=f"'{name}' could not be loaded"):
        build_encoder(name, str(folder), device=CPU)


@pytest.mark.parametrize("name", FAMILIES)
def test_missing_weights_are_an_error(folders, name, tmp_path):
    folder = tmp_path / "empty"
    shutil.copytree(folders[name], folder)
    max(folder.iterdir(), key=lambda path: path.stat().st_size).unlink()
    with pytest.raises(MissingWeightsError, match=f"'{name}'"):
        build_encoder(name, str(folder), device=CPU)


def test_synclr_without_a_path_says_where_its_weights_are():
    with pytest.raises(MissingWeightsError, match="on no hub. Download them from the SynCLR page"):
        build_encoder("synclr_vit_l_14", None, device=CPU)


def test_every_mini_encoder_has_a_full_size_relative():
    families = {spec.load for spec in ENCODERS.values() if spec.packaged}
    assert families == {spec.load for spec in ENCODERS.values() if not spec.packaged}


def test_clip_vision_is_found_in_a_whole_clip_as_the_hub_has_it(tmp_path):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = small | {"image_size": 32, "patch_size": 8, "projection_dim": 24}
    config = CLIPConfig(text_config=small | {"vocab_size": 50}, vision_config=vision, projection_dim=24)
    clip = CLIPModel(config).eval()
    clip.save_pretrained(tmp_path)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(tmp_path)
    encoder = build_encoder("clip_vision_b_32", str(tmp_path), device=CPU)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        own = clip.get_image_features(images)
        assert torch.equal(encoder.encode_image(images), getattr(own, "pooler_output", own))


def test_clip_vision_without_its_projection_is_refused_not_made_up(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "copy"
    shutil.copytree(folders["clip_vision_b_32"], folder)
    state = load_file(folder / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MissingWeightsError, match=r"1 of \d+ tensors missing \(visual_projection.weight\)"):
        build_encoder("clip_vision_b_32", str(folder), device=CPU)


def test_clip_vision_is_read_out_of_a_whole_clip_and_nothing_else(folders, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(folders["clip_vision_b_32"], tmp_path / "copy")
    state = load_file(folder / "model.safetensors")
    text = {"text_model.final_layer_norm.bias": torch.ones(2), "logit_scale": torch.ones(())}
    save_file(state | text, folder / "model.safetensors", metadata={"format": "pt"})
    whole, alone = (
        build_encoder("clip_vision_b_32", str(path), device=CPU) for path in (folder, folders["clip_vision_b_32"])
    )
    assert torch.equal(whole.projection, alone.projection)
    save_file(state | {"vision_model.extra": torch.ones(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MissingWeightsError, match=r"1 unexpected \(vision_model.extra\)"):
        build_encoder("clip_vision_b_32", str(folder), device=CPU)
