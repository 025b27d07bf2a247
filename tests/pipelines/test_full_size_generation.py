"""The generation pipeline with the generators of ``--env paper``, pointed at tiny pipelines in the true layouts."""

import io
from pathlib import Path

import pytest
from PIL import Image

from ..models.generators.test_generators_full_size import ASKED, paper_params, save
from ..models.tiny import promising_nothing
from .test_generation import run_pipeline


@pytest.mark.slow
@pytest.mark.usefixtures("attention_in_bfloat16")
@pytest.mark.parametrize("name", ASKED)
def test_a_set_is_made_complete_and_says_what_made_it(name: str, tmp_path: Path) -> None:
    params = paper_params(name, save(name, tmp_path / "weights"), captions_per_image=1, samples_per_caption=2)
    with promising_nothing(name):
        made = run_pipeline(tmp_path / "set", params)
    manifest, images = made["generated_manifest"], made["generated_images"]
    assert len(manifest) == 10
    for key in manifest["key"]:
        assert Image.open(io.BytesIO(images.read(key))).size == (32, 32)
    settings = images.description.settings
    assert settings["generator"] == name and settings["precision"] == "bfloat16" and settings["variant"] == "none"
