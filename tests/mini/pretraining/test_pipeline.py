"""Pre-training is a profile of its own: what it needs is in no other run, and one command trains a model with it."""

from pathlib import Path

from kedro.config import OmegaConfigLoader
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from safetensors.torch import load_file

from gmail_kedro.mini.pretraining.digit_reader import train_reader
from gmail_kedro.mini.pretraining.pipeline import create_pipeline
from gmail_kedro.models.weight_sources import packaged_weights
from gmail_kedro.settings import CONFIG_LOADER_ARGS

from ...pipelines.conftest import make_project


def test_its_catalog_and_parameters_are_in_its_profile_alone(repository: Path):
    needed = create_pipeline().datasets()
    base, own = (
        OmegaConfigLoader(str(repository / "conf"), env=env, **CONFIG_LOADER_ARGS) for env in ("base", "pretraining")
    )
    stored = {name for name in needed if not name.startswith("params:")}
    assert stored <= own["catalog"].keys() and not stored & base["catalog"].keys()
    assert "pretraining" in own["parameters"] and "pretraining" not in base["parameters"]


def test_the_profile_trains_and_packages_a_model(repository: Path, tmp_path: Path, monkeypatch):
    project = make_project(tmp_path, repository)
    bootstrap_project(project)
    monkeypatch.chdir(project)
    shipped = {path: path.stat().st_mtime_ns for path in packaged_weights("digit_reader").iterdir()}
    tiny = {"pretraining": {"reader_steps": 2, "scene_count": 20, "reader_batch_size": 4}}
    with KedroSession.create(project_path=project, env="pretraining", runtime_params=tiny) as session:
        session.run(pipeline_names=["pretraining"], node_names=["train_digit_reader"])
    made = project / "src/gmail_kedro/mini/weights/digit_reader"
    train_reader(steps=2, scene_count=20, batch_size=4, seed=0).save_pretrained(tmp_path / "again")
    first, again = (load_file(folder / "reader.safetensors") for folder in (made, tmp_path / "again"))
    assert all((first[name] == again[name]).all() for name in again)
    assert {path: path.stat().st_mtime_ns for path in packaged_weights("digit_reader").iterdir()} == shipped
