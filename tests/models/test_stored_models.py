"""Trained models on disk: one changed byte in any of their files is found when they are read."""

import json
import logging

import pytest
import torch

from gmail_kedro.models.captioners.captioner import build_captioner
from gmail_kedro.models.captioners.ifcap import build_memory
from gmail_kedro.models.captioners.known_captioners import load_captioner
from gmail_kedro.models.captioners.prefix_mappers import MapperSpec
from gmail_kedro.models.encoders.classifier import Classifiers, load_classifier
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.encoders.tuned_text_tower import TunedTextTower, put_text_tower
from gmail_kedro.models.fingerprints import CHECKSUMS_FILE, check_folder, finish_folder, open_folder, save_weights
from gmail_kedro.models.student.adapters import TuningSpec
from gmail_kedro.models.student.student import Student, StudentSpec, open_student
from gmail_kedro.models.vision_language.known_vision_language_models import LlavaSettings, build_vision_language_model
from gmail_kedro.models.vision_language.language_models import prepare_language_model
from gmail_kedro.models.vision_language.tuned_llava import TunedLlava, load_tuned_llava
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures
from gmail_kedro.models.vision_language.vision_towers import VisionTower
from gmail_kedro.models.weight_sources import MissingWeightsError
from gmail_kedro.whole_files import DamagedFileError

CPU = torch.device("cpu")
LORA = TuningSpec(kind="lora", rank=2, alpha=4.0, dropout=0.0, targets=("attn",))
NONE = TuningSpec(kind="none", rank=0, alpha=1.0, dropout=0.0, targets=())
FULL = TuningSpec(kind="full", rank=0, alpha=1.0, dropout=0.0, targets=())
REMEDY = "Train it again."


def save_student(folder):
    encoder = build_encoder("mini_clip", None, device=CPU)
    spec = StudentSpec(LORA, LORA, "lora_proj", "linear", batch_norm=False, teacher=encoder.fingerprint)
    Student(encoder, spec, seed=0).save_pretrained(folder)
    return lambda: open_student(folder)


def save_text_tower(folder):
    encoder = build_encoder("mini_clip", None, device=CPU)
    TunedTextTower(encoder.text_tower, encoder.fingerprint).save_pretrained(folder)
    return lambda: put_text_tower(encoder, folder)


def save_captioner(folder):
    language = prepare_language_model("mini_gpt2", None, FULL, seed=0)
    mapper = MapperSpec("mlp", 16, 3, language.width, layers=2, heads=8, constant_count=4, normalize=True)
    build_captioner(language, mapper, seed=0).save_pretrained(folder)
    memory = build_memory(torch.ones(2, 16), ["a red 7.", "a blue 8."], [["7"], ["8"]])
    memory.save(folder)
    finish_folder(folder, "captioner.json", json.loads((folder / "captioner.json").read_text()))
    return lambda: load_captioner(folder, device=CPU)


def save_classifiers(folder):
    encoder = build_encoder("mini_synclr", None, device=CPU)
    Classifiers({"food": {"weight": torch.ones(3)}}, {"food": 3}, encoder.fingerprint).save_pretrained(folder)
    return lambda: load_classifier(encoder, folder, "food", 3)


def save_vision_language(folder):
    settings = LlavaSettings("float32", VisionFeatures(-2, "default"), "auto", 0)
    encoder = build_encoder("mini_clip_vision", None, device=CPU)
    model = build_vision_language_model("mini_llava", None, encoder=encoder, settings=settings, device=CPU)
    towers = {route: VisionTower(model.vision_tower, route, model.vision_features) for route in ("generated", "real")}
    spec = TuningSpec(kind="lora", rank=2, alpha=4.0, dropout=0.0, targets=("q_proj",))
    TunedLlava(model, spec, towers, train_projector=True, seed=0).save_pretrained(folder)
    return lambda: load_tuned_llava(model, folder, towers["real"])


@pytest.mark.reliability(16)
@pytest.mark.parametrize(
    "save", [save_student, save_text_tower, save_captioner, save_classifiers, save_vision_language]
)
def test_one_changed_byte_in_any_file_of_a_stored_model_is_found(save, tmp_path):
    read = save(tmp_path / "model")
    names = json.loads((tmp_path / "model" / CHECKSUMS_FILE).read_text())
    kinds = (".safetensors", ".json", ".jinja", ".txt", ".model")
    written = {path for path in (tmp_path / "model").rglob("*") if path.suffix in kinds}
    assert {tmp_path / "model" / name for name in names} == written - {tmp_path / "model" / CHECKSUMS_FILE}
    assert any(name.endswith(".safetensors") for name in names) and any(name.endswith(".json") for name in names)
    for name in names:
        path = tmp_path / "model" / name
        whole = path.read_bytes()
        for place in (len(whole) // 2, len(whole) - 2):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            with pytest.raises(
                DamagedFileError, match=f"{path.name} is damaged, or was changed .* kedro run --pipeline="
            ):
                read()
        path.write_bytes(whole)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "weights.safetensors").write_bytes(b"weights")
    finish_folder(tmp_path, "recipe.json", {"kind": "test"})
    return tmp_path


def test_a_whole_folder_has_one_hash_that_its_content_alone_decides(folder):
    first = check_folder(folder, remedy=REMEDY)
    (folder / "README.md").write_text("not the model's")
    (folder / "notes.txt").write_text("nor these")
    assert check_folder(folder, remedy=REMEDY) == first
    finish_folder(folder, "recipe.json", {"kind": "other"})
    assert check_folder(folder, remedy=REMEDY) != first


def test_a_lost_file_is_named(folder):
    (folder / "part" / "weights.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match=r"There is no part/weights\.safetensors in .*Train it again\."):
        check_folder(folder, remedy=REMEDY)


def test_damaged_checksums_are_found_too(folder):
    path = folder / CHECKSUMS_FILE
    whole = path.read_text()
    for damaged in (whole[:-20], whole.replace("a", "b"), whole.replace("recipe", "recite")):
        assert damaged != whole
        path.write_text(damaged)
        with pytest.raises(ValueError, match=r"Train it again\."):
            check_folder(folder, remedy=REMEDY)


def test_a_folder_of_another_tool_is_taken_and_said(folder, caplog):
    first = check_folder(folder, remedy=REMEDY)
    (folder / CHECKSUMS_FILE).unlink()
    with caplog.at_level(logging.WARNING):
        assert check_folder(folder, remedy=REMEDY) == first
    assert "has no files.json, so its files are not checked" in caplog.text


def test_a_folder_opens_with_its_recipe_and_one_hash_or_not_at_all(tmp_path):
    with pytest.raises(MissingWeightsError, match=r"no mapper at .*expected recipe\.json.*Train it again"):
        open_folder(tmp_path, "recipe.json", what="mapper", remedy=REMEDY)
    save_weights(tmp_path / "part" / "weights.safetensors", {"a": torch.eye(3)[:, :2].T})  # a view
    finish_folder(tmp_path, "recipe.json", {"kind": "test"})
    facts, fingerprint = open_folder(tmp_path, "recipe.json", what="mapper", remedy=REMEDY)
    assert facts == {"kind": "test"} and fingerprint == check_folder(tmp_path, remedy=REMEDY)
    (tmp_path / CHECKSUMS_FILE).unlink()  # as an earlier version left it: nothing says that the recipe was cut
    (tmp_path / "recipe.json").write_text('{"kind": ')
    with pytest.raises(DamagedFileError, match=r"recipe\.json is damaged: it is no JSON.*Train it again"):
        open_folder(tmp_path, "recipe.json", what="mapper", remedy=REMEDY)
