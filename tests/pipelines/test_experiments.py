"""Every named run of experiments.yml aligns through the real pipeline, and its routes are what it declares."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image

from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.student.student import open_student, take_route
from gmail_kedro.whole_files import read_tensors

ROOT = Path(__file__).resolve().parents[2]
RUNS = yaml.safe_load((ROOT / "conf/base/experiments.yml").read_text())["runs"]
CPU = torch.device("cpu")


def group_of(name: str, group: str) -> dict:
    settings = OmegaConf.create()
    for key, value in RUNS[name].items():
        OmegaConf.update(settings, key, value, force_add=True)
    return OmegaConf.to_container(settings).get(group, {})


def distinct_alignments() -> list[str]:
    """One run for each way to align; runs that differ only in what is trained on the result are left out."""
    first = {
        json.dumps([group_of(name, "run"), group_of(name, "alignment")], sort_keys=True): name
        for name, changes in reversed(RUNS.items())
        if changes.get("alignment.tune") != "none"
    }
    return sorted(first.values())


@pytest.mark.parametrize("name", distinct_alignments())
def test_it_aligns_and_moves_the_routes_it_declares(name, project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    run_in(
        project,
        "alignment",
        run_id=f"named_{name}",
        run=group_of(name, "run"),
        alignment=OmegaConf.merge(group_of(name, "alignment"), {"training": {"steps": 3}}),
    )
    stored = open_student(project / f"data/06_models/named_{name}/adapter")
    encoder = group_of(name, "run").get("encoder", "mini_clip")

    def embed(route: str | None) -> torch.Tensor:
        found = build_encoder(encoder, None, device=CPU)
        found = found if route is None else take_route(found, stored, route)
        rng = np.random.default_rng(0)
        images = [Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)) for _ in range(4)]
        return found.encode_image(torch.stack([found.preprocess(image) for image in images]))

    assert not torch.equal(embed("generated"), embed(None))
    assert torch.equal(embed("real"), embed(None)) == (stored.spec.real_path == "frozen")


@pytest.mark.parametrize(
    "name", ["mixed", "realign", "c3", "mean_shift", "revision_stage_1", "ifcap_text", "ifcap", "clipcap_lora"]
)
def test_consumers_train_on_every_source(name, project, run_in, monkeypatch):
    monkeypatch.chdir(project)
    run_id = f"source_{name}"
    run_in(
        project,
        "experiment",
        run_id=run_id,
        alignment=group_of(name, "alignment"),
        downstream=group_of(name, "downstream"),
        ifcap=group_of(name, "ifcap"),
        evaluation={"meteor": False},
    )
    scores = json.loads((project / f"data/08_reporting/{run_id}/scores.json").read_text())
    assert scores["captioning"]["scores"]["cider"] >= 0
    kind = group_of(name, "alignment").get("training_free", "none")
    _, stored = read_tensors(project / f"data/06_models/{run_id}/feature_map.safetensors", remedy="")
    assert stored == {"kind": kind}
    gap, is_moved = scores["gap"]["scores"], kind != "none" or group_of(name, "alignment").get("tune") != "none"
    assert (gap["paired_cosine_after"] != gap["paired_cosine_before"]) == is_moved
