"""The full-size generators of ``--env paper``, on tiny pipelines saved in their true layouts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kedro.config import OmegaConfigLoader

from gmail_kedro.models.generators.known_generators import GENERATORS
from gmail_kedro.params.generation import GenerationParams
from gmail_kedro.pipelines.generation.nodes import build_generator
from gmail_kedro.settings import CONFIG_LOADER_ARGS

from ...pipelines.test_generation import RUN
from ..tiny import promising_nothing
from ..tiny_pipelines import save_flux, save_stable_diffusion_2

pytestmark = pytest.mark.usefixtures("attention_in_bfloat16")

ROOT = Path(__file__).resolve().parents[3]
ASKED = {
    "stable_diffusion_2_base": {},
    "stable_diffusion_2": {},
    "flux_dev": {"guidance": 3.5},
    "flux_schnell": {"guidance": 0.0, "steps": 4},
}


@pytest.fixture(scope="module", autouse=True)
def stand_ins():
    with promising_nothing(*GENERATORS):
        yield


def paper_params(name: str, folder: Path, **changes: object) -> GenerationParams:
    """What `kedro run --env paper` gets when it is pointed at a folder and told to be quick."""
    paper = OmegaConfigLoader(str(ROOT / "conf"), env="paper", **CONFIG_LOADER_ARGS)["parameters"]["generation"]
    quick = {"generator": name, "generator_path": str(folder), "resolution": 32, "steps": 3}
    return GenerationParams(**{**paper, **quick, **ASKED[name], **changes})


def save(name: str, folder: Path) -> Path:
    return save_flux(folder, name) if name.startswith("flux") else save_stable_diffusion_2(folder, name)


@pytest.mark.parametrize("name", ASKED)
def test_a_pipeline_in_the_true_layout_is_found_built_and_sampled(name, tmp_path):
    generator = build_generator(paper_params(name, save(name, tmp_path)), RUN)
    assert generator.name == name
    network = generator._pipeline.transformer if name.startswith("flux") else generator._pipeline.unet
    assert network.dtype == torch.bfloat16 and generator._pipeline.vae.dtype == torch.float32
    prompts = ["a dog on a beach", "two cats"]
    made = [np.asarray(one.image).astype(int) for one in generator.generate(prompts, [1, 2])]
    assert [one.shape for one in made] == [(32, 32, 3)] * 2
    assert np.abs(made[0] - made[1]).max() > 5


def test_v_prediction_is_read_from_the_folder(tmp_path):
    """The 768 model's scheduler says what its U-Net predicts; reading it as noise would ruin every image."""
    base, large = (
        build_generator(paper_params(name, save(name, tmp_path / name), precision="float32"), RUN)
        for name in ("stable_diffusion_2_base", "stable_diffusion_2")
    )
    assert base._pipeline.scheduler.config.prediction_type == "epsilon"
    assert large._pipeline.scheduler.config.prediction_type == "v_prediction"
    changed = paper_params(
        "stable_diffusion_2", tmp_path / "stable_diffusion_2", scheduler="EulerDiscreteScheduler", precision="float32"
    )
    assert build_generator(changed, RUN)._pipeline.scheduler.config.prediction_type == "v_prediction"


@pytest.mark.parametrize(("name", "longest"), [("flux_dev", 512), ("flux_schnell", 256)])
def test_flux_reads_prompts_as_long_as_published(name, longest, tmp_path):
    generator = build_generator(paper_params(name, save(name, tmp_path)), RUN)
    assert generator.prompt_tokens == longest
    assert generator._embed(("a dog",))[0].shape[1] == longest
