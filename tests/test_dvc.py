"""Each generated set is a DVC output of its own: invalidated alone, pushed to a remote and pulled back whole."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gmail_kedro.configuration.params_option import parse_settings
from gmail_kedro.generated_sets.verify import verify_set
from gmail_kedro.params.generation import GenerationParams

from .generated_sets.painting import folder_bytes

pytestmark = pytest.mark.slow
TINY = "generation.generator=mini_stable_diffusion,generation.steps=1,generation.image_count={}"
COMMANDS = f"{Path(sys.executable).parent}:/usr/bin:/bin"
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


def stale_stages(project: Path) -> set[str]:
    return set(json.loads(dvc(project, "status", "--json")))


def stale_sets(project: Path) -> set[str]:
    return {name for name in stale_stages(project) if name.startswith("generation@")}


@pytest.fixture(autouse=True)
def commands_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", COMMANDS)


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
        patch.setenv("PATH", COMMANDS)
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


@pytest.mark.reliability(28)
def test_bytecode_and_comments_make_nothing_stale_and_code_does(project: Path):
    cache = project / "src/gmail_kedro/models/__pycache__"
    cache.mkdir(exist_ok=True)
    (cache / "known.cpython-311.pyc").write_bytes(b"bytecode")
    assert stale_stages(project).isdisjoint({"code", "generation@first", "generation@second"})
    generators = project / "src/gmail_kedro/models/generators/known_generators.py"
    before = generators.read_text()
    catalog = project / "conf/base/catalog.yml"
    entries = catalog.read_text()
    try:
        generators.write_text(f"{before}# a comment\n")
        told = dvc(project, "repro", "generation@first")
        assert "Running stage 'code'" in told and "Running stage 'generation@" not in told
        generators.write_text(f"{before}\nNEW = 1\n")
        dvc(project, "repro", "code")
        assert stale_sets(project) == {"generation@first", "generation@second"}
        generators.write_text(before)
        catalog.write_text(entries.replace("layer: generated set", "layer: another") + "# a comment\n")
        dvc(project, "repro", "code")
        assert stale_sets(project) == set()
        catalog.write_text(entries.replace("data/02_intermediate/${_set}", "data/02_intermediate/other_${_set}"))
        dvc(project, "repro", "code")
        assert stale_sets(project) == {"generation@first", "generation@second"}
    finally:
        catalog.write_text(entries)
        generators.write_text(before)
        dvc(project, "repro", "code")
    assert stale_sets(project) == set()


@pytest.mark.reliability(28)
def test_a_setting_that_is_text_makes_its_own_set_stale_and_no_other(project: Path):
    file = project / "conf/base/sets.yml"
    before = file.read_text()
    content = yaml.safe_load(before)
    content["sets"]["second"]["params"] += ",generation.negative_prompt=blurry, low quality"
    try:
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        assert stale_sets(project) == {"generation@second"}
    finally:
        file.write_text(before)


@pytest.mark.reliability(28)
def test_a_byte_that_dvc_does_not_see_is_found_by_the_sets_own_hashes(project: Path):
    shard = next((project / "data/02_intermediate/first/shards").glob("*.tar"))
    content, times = shard.read_bytes(), shard.stat()
    middle = content.index(b"\xff\xd8\xff") + 200
    try:
        shard.chmod(0o644)
        shard.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        os.utime(shard, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert stale_sets(project) == set()  # DVC goes by size and time of a file that it knows
        assert [shard.name in problem.place for problem in verify_set(shard.parents[1]).problems] == [True]
    finally:
        shard.write_bytes(content)


@pytest.mark.reliability(28)
def test_a_clone_that_pulls_has_nothing_to_do(project: Path, tmp_path: Path):
    stages = ("code", "mini_world", "generation@first")
    dvc(project, "remote", "add", "--default", "--force", "store", str(tmp_path / "remote"))
    dvc(project, "push", *stages)
    clone = tmp_path / "clone"
    shutil.copytree(project, clone, ignore=shutil.ignore_patterns("data", "cache", "tmp", "__pycache__"))
    dvc(clone, "pull", *stages)
    assert verify_set(clone / "data/02_intermediate/first").problems == ()
    assert stale_stages(clone).isdisjoint(stages)
    assert "Running stage" not in dvc(clone, "repro", "generation@first")


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
