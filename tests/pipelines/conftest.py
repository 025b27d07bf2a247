"""A copy of the project's configuration to run in, so that no test touches the project's own data."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

TINY = {
    "mini_world": {"train_count": 40, "val_count": 8, "test_count": 24},
    "mini_benchmarks": {"flickr_count": 20, "long_caption_count": 16, "scienceqa_count": 6, "mmmu_count": 6},
    "generation": {"image_count": 30, "steps": 2, "batch_size": 10, "shard_size": 20},
    "alignment": {"training": {"steps": 6, "batch_size": 12, "checkpoint_every": 2}},
    "downstream": {"training": {"steps": 8, "batch_size": 12, "checkpoint_every": 4}},
    "retriever": {"training": {"steps": 4, "batch_size": 12, "checkpoint_every": 2}},
    "diagnostics": {"bootstrap_count": 50, "tsne_count": 20},
    "evaluation": {"bootstrap_count": 50, "beam_size": 2},
    "run": {"precision": "float32"},
}

Run = Callable[..., None]


def make_project(folder: Path, repository: Path) -> Path:
    """Copies what a run needs beside the installed package."""
    shutil.copytree(repository / "conf", folder / "conf", dirs_exist_ok=True)
    shutil.copy(repository / "pyproject.toml", folder)
    (folder / "src").mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def run_in() -> Run:
    """Runs pipelines in a project folder with tiny settings and whatever else is given."""

    def run(project: Path, *pipelines: str, env: str | None = None, **parameters: object) -> None:
        from kedro.framework.session import KedroSession
        from kedro.framework.startup import bootstrap_project

        merged = OmegaConf.to_container(OmegaConf.merge(TINY, parameters))
        bootstrap_project(project)
        with KedroSession.create(project_path=project, env=env, runtime_params=merged) as session:
            session.run(pipeline_names=list(pipelines))

    return run


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory, repository: Path, run_in: Run) -> Path:
    """A project in which the whole default pipeline ran once."""
    folder = make_project(tmp_path_factory.mktemp("project"), repository)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_in(folder, "__default__")
    return folder
