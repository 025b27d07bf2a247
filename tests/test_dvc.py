"""Each generated set is a DVC output of its own: invalidated alone, pushed to a remote and pulled back whole."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gmail_kedro.configuration.settings_text import parse_settings
from gmail_kedro.params import GenerationParams
from gmail_kedro.records.verify import verify_set

from .records.painting import folder_bytes

pytestmark = pytest.mark.slow
TINY = "generation.generator=mini_stable_diffusion,generation.steps=1,generation.image_count={}"
NEEDED = ("conf", ".dvc/config", ".dvcignore", ".gitignore", ".telemetry", "dvc.yaml", "pyproject.toml", "src")


def dvc(project: Path, *words: str) -> str:
    command = [sys.executable, "-m", "dvc", *words]
    finished = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def declare_sets(project: Path, **image_counts: int) -> None:
    weights = "src/gmail_kedro/mini/weights/stable_diffusion"
    sets = {name: {"weights": weights, "params": TINY.format(count)} for name, count in image_counts.items()}
    (project / "conf/base/sets.yml").write_text(yaml.safe_dump({"sets": sets}, sort_keys=False))


def stale_sets(project: Path) -> set[str]:
    return {name for name in json.loads(dvc(project, "status", "--json")) if name.startswith("generation@")}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A copy of the repository in which two tiny sets were made through DVC."""
    folder = tmp_path_factory.mktemp("dvc")
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (repository / name).is_dir() else shutil.copy
        copy(repository / name, folder / name)
    parameters = yaml.safe_load((folder / "conf/base/parameters.yml").read_text())
    parameters["mini_world"] |= {"train_count": 20, "val_count": 4, "test_count": 4}
    (folder / "conf/base/parameters.yml").write_text(yaml.safe_dump(parameters))
    declare_sets(folder, first=4, second=6)
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
        dvc(folder, "repro", "generation@first", "generation@second")
    return folder


def test_the_sets_are_made_and_nothing_is_stale(project: Path):
    for name, count in (("first", 4), ("second", 6)):
        result = verify_set(project / "data/02_intermediate" / name)
        assert result.problems == () and result.image_count == count
        assert (project / "data/02_intermediate" / name / "README.md").is_file()
    assert stale_sets(project) == set()


def test_changing_one_sets_settings_makes_it_stale_and_no_other(project: Path):
    declare_sets(project, first=4, second=5)
    try:
        assert stale_sets(project) == {"generation@second"}
        told = dvc(project, "repro", "--dry", "generation@first", "generation@second")
        assert "'generation@first' didn't change" in told and "Running stage 'generation@second'" in told
    finally:
        declare_sets(project, first=4, second=6)
    assert stale_sets(project) == set()


def test_adding_a_set_makes_no_other_stale(project: Path):
    declare_sets(project, first=4, second=6, third=3)
    try:
        assert stale_sets(project) == {"generation@third"}
    finally:
        declare_sets(project, first=4, second=6)


def test_a_set_comes_back_from_a_remote_as_it_was(project: Path, tmp_path: Path):
    folder = project / "data/02_intermediate/first"
    before = folder_bytes(folder)
    dvc(project, "remote", "add", "--default", "--force", "store", str(tmp_path / "remote"))
    dvc(project, "push", "generation@first")
    shutil.rmtree(folder)
    shutil.rmtree(project / ".dvc/cache")
    dvc(project, "pull", "generation@first")
    assert folder_bytes(folder) == before
    assert verify_set(folder).problems == ()


def test_the_repositorys_own_sets_name_weights_and_parameters_that_exist(repository: Path):
    sets = yaml.safe_load((repository / "conf/base/sets.yml").read_text())["sets"]
    groups = yaml.safe_load((repository / "conf/base/parameters_generation.yml").read_text())
    assert "mini_sd" in sets and len(sets) >= 5
    for declared in sets.values():
        group = {name.removeprefix("generation."): value for name, value in parse_settings(declared["params"]).items()}
        GenerationParams(**groups["generation"] | group)
        assert declared["weights"].startswith("src/gmail_kedro/mini/weights/")
