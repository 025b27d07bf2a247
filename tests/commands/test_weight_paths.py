"""Weights in the profile's folder of weights are given to the runs that name them, and to no others."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from gmail_kedro.commands import runs
from gmail_kedro.commands.project import Project
from gmail_kedro.commands.runs import OF_A_RUN, OF_A_SET, find_paths


@pytest.fixture
def project(tmp_path, repository):
    shutil.copytree(repository / "conf", tmp_path / "conf")
    return Project(tmp_path, "paper")


def put(project, path):
    """Puts a whole file of one tensor there, or the configuration of the published GPT-2."""
    file = project.root / "data/01_raw/weights" / path
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".json":
        file.write_text(json.dumps({"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12}))
    elif file.suffix == ".safetensors":
        save_file({"weight": torch.zeros(1)}, file)
    else:
        torch.save({"weight": torch.zeros(1)}, file)
    return str(file)


def test_a_run_is_pointed_at_what_lies_there_by_its_models_name(project):
    changes = {"run.encoder": "synclr_vit_b_16"}
    assert find_paths(project, changes, OF_A_RUN) == {}  # no folder
    put(project, "clip_vit_b_32/open_clip_model.safetensors")
    assert find_paths(project, changes, OF_A_RUN) == {}  # another encoder's
    checkpoint = put(project, "synclr_vit_b_16.pth")
    assert find_paths(project, changes, OF_A_RUN) == {"run.encoder_path": checkpoint}
    assert find_paths(project, changes | {"run.encoder_path": "mine.pth"}, OF_A_RUN) == {}


def test_weights_that_are_not_whole_are_passed_over(project):
    put(project, "gpt2/config.json")
    assert find_paths(project, {}, OF_A_RUN) == {}
    language_model = put(project, "gpt2/model.safetensors").rpartition("/")[0]
    assert find_paths(project, {}, OF_A_RUN) == {"downstream.language_model_path": language_model}
    assert find_paths(project, {}, OF_A_SET) == {}


def test_a_set_is_pointed_at_its_generators_weights(project, monkeypatch):
    def found(project, settings, kinds):
        assert kinds == OF_A_SET
        return {"generation.generator_path": "weights/flux_dev"} if "generation.generator" in settings else {}

    monkeypatch.setattr(runs, "find_paths", found)
    assert runs.find_set(project, "coco_flux")["generation.generator_path"] == "weights/flux_dev"
    assert runs.find_set(project, "coco") == {"set": "coco", "corpus": "coco_karpathy"}


def test_a_profile_without_requirements_has_no_such_folder(project):
    put(project, "mini_clip/open_clip_model.safetensors")
    assert find_paths(Project(project.root, "own_corpus"), {}, OF_A_RUN) == {}
