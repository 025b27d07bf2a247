"""Caption scores of the quality gate, by the packaged encoder."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import render_scene, sample_scene
from gmail_kedro.models.weight_sources import packaged_weights
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.generation.scoring import build_scorer, identify_scorer, scorer_name

RUN = RunParams(
    seed=0,
    device="cpu",
    precision="float32",
    encoder="mini_clip",
    encoder_path=None,
    image_batch_size=8,
    engine="local",
)


def test_images_score_higher_with_their_own_captions() -> None:
    scans, rng = load_scans("val"), np.random.default_rng(0)
    scenes = [
        replace(sample_scene(rng, scans, pair_fraction=0.0), ink=ink, paper=paper, pattern=pattern)
        for ink, paper, pattern in (
            ("red", "white", "plain"),
            ("blue", "pink", "lined"),
            ("green", "yellow", "squared"),
        )
    ]
    images = [Image.fromarray(render_scene(scene, scans)) for scene in scenes]
    captions = [f"a {scene.ink} {scene.digits[0]} on {scene.paper} paper." for scene in scenes]
    score = build_scorer(RUN)
    own, others = score(images, captions), score(images, captions[1:] + captions[:1])
    assert own.shape == (3,)
    assert (own > others).all()
    assert np.abs(np.concatenate([own, others])).max() <= 1 + 1e-6


def test_a_vision_only_encoder_cannot_score() -> None:
    with pytest.raises(ValueError, match="min_caption_score needs an encoder that reads captions; 'mini_synclr'"):
        build_scorer(RUN.replace(encoder="mini_synclr"))


def test_the_scorer_is_named_by_encoder_and_folder() -> None:
    assert scorer_name(RUN) == "mini_clip"
    assert scorer_name(RUN.replace(encoder_path="/weights")) == "mini_clip of /weights"


def test_a_scorer_is_told_from_another_in_the_same_folder(tmp_path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(packaged_weights("clip"), folder)
    run = RUN.replace(encoder_path=str(folder))
    before = identify_scorer(run)
    assert before.startswith(f"mini_clip of {folder} (") and before == identify_scorer(run)
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert identify_scorer(run) != before
