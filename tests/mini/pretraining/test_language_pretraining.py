"""The mini LLaMA-3 and the mini LLaVA: trained a little, packaged in their real formats, loaded as any other model."""

import copy
import json

import pytest
import torch

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.mini.pretraining.language_tokenizers import (
    sample_dialogues,
    train_llama_3_tokenizer,
    train_vicuna_tokenizer,
)
from gmail_kedro.mini.pretraining.pretrain_clip_vision import load_vision_tower
from gmail_kedro.mini.pretraining.pretrain_llama import PackagedLlama, build_llama_3, pretrain_language
from gmail_kedro.mini.pretraining.pretrain_llava import PackagedLlava, pretrain_llava
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.vision_language.chat import Turn, build_chat
from gmail_kedro.models.vision_language.known_vision_language_models import LlavaSettings, build_vision_language_model
from gmail_kedro.models.vision_language.language_models import build_language_model
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures
from gmail_kedro.models.weight_sources import packaged_weights

CPU = torch.device("cpu")
LIMIT_BYTES = 2.2e6


@pytest.fixture(scope="module")
def texts():
    return sample_dialogues(scene_count=30)


def settings(name: str = "auto") -> LlavaSettings:
    return LlavaSettings("float32", VisionFeatures(-2, "default"), name, 0)


def test_tokenizers_keep_any_text_and_read_numbers_digit_by_digit(texts):
    for tokenizer in (train_llama_3_tokenizer(texts), train_vicuna_tokenizer(texts)):
        text = "the number 42, ein Café 犬."
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text
        pieces = [
            tokenizer.decode([token]).strip() for token in tokenizer("a 4217", add_special_tokens=False).input_ids
        ]
        assert [piece for piece in pieces if piece] == ["a", "4", "2", "1", "7"]


def test_a_tiny_llama_learns_and_is_loaded_with_its_chat(texts, tmp_path):
    tokenizer = train_llama_3_tokenizer(texts)
    chat = build_chat(tokenizer, None, chat_format="auto")
    torch.manual_seed(0)
    model = build_llama_3(tokenizer)
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert model.config.rope_parameters["rope_theta"] == 500_000
    untrained = copy.deepcopy(model)
    state = Checkpoint(tmp_path / "state.safetensors", {}, every=20)
    model = pretrain_language(model, chat, steps=20, batch_size=4, seed=0, checkpoint=state)
    PackagedLlama(model, tokenizer).save_pretrained(tmp_path / "llama")
    assert answer_loss(model, chat) < answer_loss(untrained, chat) - 1
    loaded, again = build_language_model("mini_llama", str(tmp_path / "llama"))
    asked = [Turn("What color is the ink?", "red")]
    assert build_chat(again, None, chat_format="auto").encode(asked, with_image=False) == chat.encode(
        asked, with_image=False
    )
    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float32}


def answer_loss(model, chat) -> float:
    conversation = chat.encode([Turn("Describe this picture.", "the number 42 in red ink.")], with_image=False)
    ids, labels = torch.tensor([conversation.ids]), torch.tensor([conversation.labels])
    with torch.no_grad():
        return float(model(input_ids=ids, labels=labels).loss)


def test_a_tiny_llava_keeps_its_tower_and_is_loaded(texts, tmp_path):
    tokenizer = train_vicuna_tokenizer(texts)
    tower = load_vision_tower(packaged_weights("clip_vision"))
    common = {"scene_count": 6, "batch_size": 2, "seed": 0}
    model = pretrain_llava(tower, tokenizer, steps=2, work=tmp_path / "work", **common)
    PackagedLlava(model, tokenizer).save_pretrained(tmp_path / "llava")
    encoder = build_encoder("mini_clip_vision", None, device=CPU)
    loaded = build_vision_language_model(
        "mini_llava", str(tmp_path / "llava"), encoder=encoder, settings=settings(), device=CPU
    )
    for name, value in tower.vision_model.state_dict().items():
        assert torch.equal(loaded.vision_tower.state_dict()[name], value), name
    again = pretrain_llava(tower, tokenizer, steps=2, work=tmp_path / "other", **common)
    pairs = zip(model.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)


def test_the_shipped_weights_stay_small_and_know_their_tower():
    folders = [packaged_weights(name) for name in ("llama", "llava")]
    assert sum(path.stat().st_size for folder in folders for path in folder.rglob("*")) <= LIMIT_BYTES
    config = json.loads((packaged_weights("llava") / "config.json").read_text())
    assert config["model_type"] == "llava" and config["text_config"]["model_type"] == "llama"


@pytest.mark.parametrize("name", ["mini_llava", "mini_llava_llama3"])
def test_the_shipped_models_answer_in_words_about_an_image(name):
    encoder = build_encoder("mini_clip_vision", None, device=CPU)
    model = build_vision_language_model(name, None, encoder=encoder, settings=settings(), device=CPU)
    tokens = model.vision_features.select(model.vision_tower, torch.zeros(1, 3, 32, 32))
    assert tokens.shape == (1, model.patch_count, 96)
    assert isinstance(model.write(tokens, ["What color is the ink?"], max_tokens=4)[0], str)
