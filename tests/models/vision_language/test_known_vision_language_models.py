"""LLaVA from tiny checkpoints in their true formats, whole and put together, and what is refused."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.vision_language.chat import Turn
from gmail_kedro.models.vision_language.known_vision_language_models import LlavaSettings, build_vision_language_model
from gmail_kedro.models.vision_language.language_models import build_language_model
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures
from gmail_kedro.models.weight_sources import MissingWeightsError, UnknownModelError

from ..tiny import promising_nothing
from ..tiny_llava import save_llama_3, save_llava, save_tower, save_vicuna

CPU = torch.device("cpu")


def settings(*, layer: int = -2, select: str = "default", dtype: str = "float32", chat_format: str = "auto"):
    return LlavaSettings(dtype=dtype, vision_features=VisionFeatures(layer, select), chat_format=chat_format, seed=0)


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing("clip_vision_l_14_336", "llava_1_5_7b", "llama_3_8b_instruct", "llama_3_8b", "vicuna_7b"):
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("llava")
    tower = save_tower(root / "tower")
    save_llava(root / "llava", tower, shard_size="20KB")
    save_llama_3(root / "llama_3")
    save_vicuna(root / "vicuna")
    return root


@pytest.fixture
def encoder(folders):
    return build_encoder("clip_vision_l_14_336", str(folders / "tower"), device=CPU)


def build(folders, encoder, name="llava_1_5_7b", folder="llava", **changes):
    return build_vision_language_model(
        name, str(folders / folder), encoder=encoder, settings=settings(**changes), device=CPU
    )


def states_of(model, pixels):
    return model.vision_features.select(model.vision_tower, pixels)


def loss_of(model, tokens):
    batch = model.batch([model.chat.encode([Turn("What color?", "red")], with_image=True)])
    return model.loss_sum(tokens, batch)


def test_a_sharded_checkpoint_is_loaded_and_computes_what_transformers_computes(folders, encoder):
    from transformers import LlavaForConditionalGeneration

    assert len(list((folders / "llava").glob("model-*.safetensors"))) > 2
    assert (folders / "llava/model.safetensors.index.json").is_file()
    model = build(folders, encoder)
    reference = LlavaForConditionalGeneration.from_pretrained(folders / "llava").eval()
    pixels = model.preprocess(Image.linear_gradient("L").convert("RGB"))[None]
    tokens = states_of(model, pixels)
    assert tokens.shape == (1, 4, 16) and model.patch_count == 4
    batch = model.batch([model.chat.encode([Turn("What color?", "red")], with_image=True)])
    with torch.no_grad():
        wanted = reference(
            input_ids=batch.ids, pixel_values=pixels, attention_mask=batch.mask, labels=batch.labels
        ).loss
        count = int((batch.labels[:, 1:] != -100).sum())
        assert torch.allclose(model.loss_sum(tokens, batch) / count, wanted, atol=1e-5)


def test_greedy_answers_do_not_depend_on_their_neighbours(folders, encoder):
    model = build(folders, encoder)
    tokens = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(0))
    prompts = ["What?", "What color is the ink of this?", "Provide a caption"]
    together = model.write(tokens, prompts, max_tokens=6)
    alone = [model.write(tokens[i : i + 1], [prompts[i]], max_tokens=6)[0] for i in range(3)]
    assert together == alone and len(set(together)) > 1
    assert model.write(None, ["No image?"], max_tokens=3) != []


def test_the_image_is_read(folders, encoder):
    model = build(folders, encoder)
    first, second = torch.randn(2, 1, 4, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(loss_of(model, first), loss_of(model, second))
    with pytest.raises(ValueError, match="have room for 4 patches, but the images have 1 times 3"):
        loss_of(model, first[:, :3])


def test_the_class_token_and_the_layer_are_choices(folders, encoder):
    pixels = torch.rand(1, 3, 28, 28)
    whole, last = build(folders, encoder, select="full"), build(folders, encoder, layer=-1)
    assert whole.patch_count == 5 and states_of(whole, pixels).shape == (1, 5, 16)
    default = build(folders, encoder)
    assert torch.equal(
        states_of(whole, pixels)[:, 1:],
        states_of(default, pixels),
    )
    assert not torch.equal(
        states_of(last, pixels),
        states_of(default, pixels),
    )
    with pytest.raises(ValueError, match=r"must be a layer of the tower, which has 3 .* Got -9 instead"):
        build(folders, encoder, layer=-9)


@pytest.mark.parametrize(
    ("name", "folder", "said"), [("clip_llama_3_8b", "llama_3", "<|eot_id|>"), ("clip_vicuna_7b", "vicuna", "</s>")]
)
def test_a_language_model_is_put_together_with_the_runs_tower(name, folder, said, folders, encoder):
    model, again = (build(folders, encoder, name, folder) for _ in range(2))
    assert model.stock_tower == again.stock_tower
    assert all(
        torch.equal(a, b) for a, b in zip(model.projector.parameters(), again.projector.parameters(), strict=True)
    )
    tokens = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    assert torch.isfinite(loss_of(model, tokens)) and torch.equal(loss_of(model, tokens), loss_of(again, tokens))
    assert model.chat.end == model.chat.tokenizer.convert_tokens_to_ids(said)
    alone, _ = build_language_model("llama_3_8b", str(folders / folder))
    kept = model.model.model.language_model.state_dict()
    rows = alone.model.embed_tokens.weight.shape[0]
    for key, value in alone.model.state_dict().items():
        assert torch.equal(kept[key][:rows] if key.startswith("embed") else kept[key], value), key


def test_half_precision_keeps_the_projector_exact(folders, encoder):
    model = build(folders, encoder, "clip_llama_3_8b", "llama_3", dtype="bfloat16")
    assert model.model.lm_head.weight.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.projector.parameters()} == {torch.float32}
    assert torch.isfinite(loss_of(model, torch.randn(1, 4, 16)))


def copy_of(folders, tmp_path):
    import shutil

    return shutil.copytree(folders / "llava", tmp_path / "copy")


def test_a_lost_shard_is_refused(folders, encoder, tmp_path):
    folder = copy_of(folders, tmp_path)
    next(iter(sorted(folder.glob("model-*.safetensors")))).unlink()
    with pytest.raises(MissingWeightsError, match="could not be loaded from"):
        build_vision_language_model("llava_1_5_7b", str(folder), encoder=encoder, settings=settings(), device=CPU)


def test_a_lost_tensor_is_refused_by_name(folders, encoder, tmp_path):
    folder = copy_of(folders, tmp_path)
    index = json.loads((folder / "model.safetensors.index.json").read_text())
    key = next(key for key in index["weight_map"] if "multi_modal_projector.linear_1.weight" in key)
    shard = folder / index["weight_map"].pop(key)
    save_file({name: value for name, value in load_file(shard).items() if name != key}, shard, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        MissingWeightsError, match=r"1 of \d+ tensors missing \(model\.multi_modal_projector\.linear_1\.weight\)"
    ):
        build_vision_language_model("llava_1_5_7b", str(folder), encoder=encoder, settings=settings(), device=CPU)


def test_a_language_model_with_a_lost_tensor_is_refused(folders, tmp_path):
    import shutil

    folder = shutil.copytree(folders / "llama_3", tmp_path / "copy")
    state = load_file(folder / "model.safetensors")
    del state["model.norm.weight"]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(MissingWeightsError, match=r"1 of \d+ tensors missing \(model\.norm\.weight\)"):
        build_language_model("llama_3_8b", str(folder))


def test_an_unknown_name_a_wrong_path_and_another_kind_of_encoder_are_refused(folders, encoder):
    with pytest.raises(UnknownModelError, match="no vision-language model 'llava_2'.*llava_1_5_7b"):
        build(folders, encoder, "llava_2")
    with pytest.raises(MissingWeightsError, match="which is not there"):
        build(folders, encoder, folder="nowhere")
    with pytest.raises(ValueError, match=r"the encoder 'mini_clip' is of another family. Set run\.encoder"):
        build(folders, build_encoder("mini_clip", None, device=CPU))
