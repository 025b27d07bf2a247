"""What is missing is found, named and counted; what is here is not asked for again."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import open_clip
import pytest
import torch
from safetensors.torch import save_file

from gmail_kedro.commands import main
from gmail_kedro.preflight import machine as looks
from gmail_kedro.preflight.machine import check_machine, disk_gb, gpu_hours
from gmail_kedro.preflight.requirements import CorpusFiles, Requirements, TableNeeds, Weights, Work

GROUPS = {
    "run": {"encoder": "clip_vit_b_32", "encoder_path": None},
    "generation": {"generator": "flux_dev", "generator_path": None},
    "downstream": {"language_model": "gpt2", "language_model_path": None},
    "vision_language": {"model": "llava_1_5_7b", "model_path": None},
    "evaluation": {"word_vectors": "vectors.bin"},
    "ifcap": {"nouns": "nltk", "vocabulary": None},
}
NEEDS = Requirements(
    weights_folder="weights",
    weights={
        "clip_vit_b_32": Weights(0.6),
        "long_clip_b": Weights(0.6, instead=("long_clip_l",)),
        "flux_dev": Weights(34, licence="not commercial", gated=True),
    },
    corpora={
        "coco": CorpusFiles(20, files={"coco/a.json": 1, "coco/images/*.jpg": 3}, home="cocodataset.org"),
        "world": CorpusFiles(0, made_by="mini_world"),
    },
    work={
        "set": Work(120, 16, 60, "paper", is_shared=True),
        "tuning": Work(10, 28, 1, "paper"),
        "looking": Work(0, 0, 0, "assumed: none"),
    },
    tables={
        1: TableNeeds(encoders=("clip_vit_b_32",), corpora=("coco",), work={"set": 1, "tuning": 2}),
        2: TableNeeds(encoders=("clip_vit_b_32", "long_clip_b"), work={"set": 1, "tuning": 1}),
        3: TableNeeds(generators=("flux_dev",), corpora=("world",), work={"looking": 1}),
        4: TableNeeds(tools=("ptb", "meteor", "spice", "word_vectors", "nouns")),
    },
)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Returns a function that looks at an empty machine with some settings changed."""
    import huggingface_hub
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    monkeypatch.setenv("NLTK_DATA", str(tmp_path / "nltk"))

    def look(*tables, **settings):
        groups = {name: {**group, **settings.get(name, {})} for name, group in GROUPS.items()}
        return {(one.kind, one.name): one for one in check_machine(NEEDS, tables, tmp_path, groups.__getitem__)}

    return look


def put(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def put_clip(folder: Path) -> Path:
    """The configuration of ViT-B/32, and weights of which only the head is looked at."""
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    put(folder / "open_clip_config.json", json.dumps({"model_cfg": config}))
    save_file({"logit_scale": torch.ones(())}, folder / "open_clip_model.safetensors")
    return folder


def test_weights_that_are_nowhere_say_where_they_come_from(machine):
    found = machine(1, 2)["weights", "clip_vit_b_32"]
    assert not found.is_here and found.tables == (1, 2) and found.missing_gb == 0.6
    assert "weights/clip_vit_b_32; from timm/vit_base_patch32_clip_224.openai" in found.detail


def test_weights_in_the_common_folder_say_how_a_kedro_run_is_told(machine, tmp_path):
    folder = put_clip(tmp_path / "weights/clip_vit_b_32")
    found = machine(1)["weights", "clip_vit_b_32"]
    assert found.is_here and found.detail == f"{folder}; for kedro run: run.encoder_path={folder}"
    assert machine(1)["corpus", "coco"].tables == (1,)


def test_weights_are_looked_for_where_the_run_points(machine, tmp_path):
    put_clip(tmp_path / "mine")
    assert machine(1, run={"encoder_path": "mine"})["weights", "clip_vit_b_32"].is_here
    assert not machine(1, run={"encoder_path": "yours"})["weights", "clip_vit_b_32"].is_here
    other = {"encoder": "long_clip_b", "encoder_path": "mine"}
    assert not machine(1, run=other)["weights", "clip_vit_b_32"].is_here


def test_what_can_take_its_place_is_named(machine, tmp_path):
    assert "In its place" not in machine(2)["weights", "long_clip_b"].detail
    put(tmp_path / "weights/long_clip_l.pt", "tensors")
    found = machine(2)["weights", "long_clip_b"]
    assert not found.is_here and "In its place long_clip_l could be used: run.encoder=long_clip_l" in found.detail


def test_a_gated_model_says_whether_one_is_logged_in(machine, monkeypatch):
    import huggingface_hub

    detail = machine(3)["weights", "flux_dev"].detail
    assert "Licence: not commercial" in detail and "no token is here: hf auth login" in detail
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "secret")
    detail = machine(3)["weights", "flux_dev"].detail
    assert "a token is here" in detail and "secret" not in detail


def test_files_of_a_corpus_are_counted(machine, tmp_path):
    put(tmp_path / "coco/a.json")
    put(tmp_path / "coco/images/1.jpg")
    found = machine(1)["corpus", "coco"]
    assert found.detail == "Missing: coco/images/*.jpg (1 of 3). From cocodataset.org." and found.missing_gb == 20
    put(tmp_path / "coco/images/2.jpg")
    put(tmp_path / "coco/images/3.jpg")
    found = machine(1)["corpus", "coco"]
    assert found.is_here and found.missing_gb == 0
    assert machine(3)["corpus", "world"].detail == "made by: kedro run --pipeline=mini_world"


def test_tools_say_what_they_lack(machine, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    found = machine(4)
    assert not any(found["tool", name].is_here for name in ("ptb", "meteor", "spice", "word_vectors"))
    assert all("needs Java" in found["tool", name].detail for name in ("ptb", "meteor", "spice"))
    assert "no word vectors at 'vectors.bin'" in found["tool", "word_vectors"].detail
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/java")
    put(tmp_path / "vectors.bin")
    found = machine(4)
    assert all(found["tool", name].is_here for name in ("ptb", "meteor", "word_vectors"))
    assert machine(4, evaluation={"word_vectors": "own"})["tool", "word_vectors"].is_here
    assert not machine(4, evaluation={"word_vectors": None})["tool", "word_vectors"].is_here


def test_taggers_need_what_the_profile_chose(machine, tmp_path, monkeypatch):
    monkeypatch.setattr("gmail_kedro.models.captioners.nouns.nltk_folders", lambda: [tmp_path / "nltk"])
    assert "nltk.downloader averaged_perceptron_tagger_eng wordnet" in machine(4)["tool", "nouns"].detail
    put(tmp_path / "nltk/corpora/wordnet.zip")
    put(tmp_path / "nltk/taggers/averaged_perceptron_tagger_eng.zip")
    assert machine(4)["tool", "nouns"].is_here
    assert machine(4, ifcap={"nouns": "textblob"})["tool", "nouns"].is_here
    assert "words.txt" in machine(4, ifcap={"vocabulary": "words.txt"})["tool", "nouns"].detail


def test_a_gpu_must_have_the_memory_of_the_largest_work(machine, monkeypatch):
    assert not [one for one in machine(3).values() if one.kind == "gpu"]
    monkeypatch.setattr(looks, "_gpus", lambda: [("Small (24 GiB)", 24.0)])
    found = machine(1)["gpu", "28 GiB"]
    assert not found.is_here and "torch sees Small (24 GiB)" in found.detail
    monkeypatch.setattr(looks, "_gpus", lambda: [("Small (24 GiB)", 24.0), ("Large (80 GiB)", 80.0)])
    assert machine(1)["gpu", "28 GiB"].detail == "Large (80 GiB)"


def test_each_table_must_fit_on_the_disk_with_what_is_to_be_brought(machine, monkeypatch):
    monkeypatch.setattr(looks.shutil, "disk_usage", lambda root: SimpleNamespace(free=70 * 10**9))
    found = [one for one in check_list(machine, 1, 2) if one.kind == "disk"]
    assert [(one.is_here, one.tables) for one in found] == [(True, (2,)), (False, (1,))]
    assert "1: 83" in found[1].detail  # 0.6 of weights, 20 of COCO, a set of 60, two runs


def check_list(machine, *tables):
    return check_machine(NEEDS, tables, Path.cwd(), GROUPS.__getitem__)


def test_what_tables_share_is_counted_once():
    tables = {number: NEEDS.tables[number] for number in (1, 2)}
    assert gpu_hours(NEEDS, tables) == 120 + 3 * 10
    assert disk_gb(NEEDS, tables) == 60 + 3
    assert gpu_hours(NEEDS, {2: NEEDS.tables[2]}) == 120 + 10


def test_an_unknown_table_is_refused(machine):
    with pytest.raises(ValueError, match=r"no table \[18\].*Known tables: \[1, 2, 3, 4\]"):
        machine(1, 18)


@pytest.fixture
def project(tmp_path, repository, monkeypatch):
    shutil.copytree(repository / "conf", tmp_path / "conf")
    shutil.copy(repository / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_mini_world_lacks_at_most_what_java_needs(project, capsys):
    main(["preflight", "--json"])
    found = json.loads(capsys.readouterr().out)
    missing = {one["name"] for one in found["findings"] if not one["is_here"]}
    assert missing <= ({"spice"} if shutil.which("java") else {"spice", "meteor"})
    assert found["tables"]["1"]["title"] == "Image captioning on COCO"
    assert found["tables"]["1"]["missing"] == [name for name in ("meteor", "spice") if name in missing]


def test_the_exit_code_is_of_the_tables_that_were_asked_for(project, capsys):
    assert main(["preflight", "--table", "2", "--table", "14"]) == 0
    text = capsys.readouterr().out
    assert "Profile base: 2 tables of the paper" in text and "MISSING" not in text
    assert text.count("nothing") == 2


def test_an_empty_machine_lacks_everything_of_the_paper(project, capsys, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(project / "hub"))
    assert main(["preflight", "--env", "paper", "--table", "15"]) == 1
    text = capsys.readouterr().out
    for name in ("clip_vision_l_14_336", "stable_diffusion_2_base", "llava_1_5_7b", "coco_karpathy", "mmmu"):
        assert f"  MISSING {name}  (table 15)" in text
    assert "long_clip_b" not in text and "flux_dev" not in text
    assert text.endswith("Their commands, in order: gmail-kedro table --dry-run 15 --env paper\n")
    assert "paper (Appendix A)" in text and max(map(len, text.splitlines())) <= 120


def test_a_table_that_is_none_is_an_error(project, caplog):
    assert main(["preflight", "--table", "18"]) == 1
    assert "There is no table [18]" in caplog.text
