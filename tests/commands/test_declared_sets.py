"""`gmail-kedro set make`: a set's own settings reach the generator as they are written, whatever is in them."""

import shutil
from pathlib import Path

import pytest
import yaml

from gmail_kedro.commands import main, runs

TEXT = 'it\'s 5$ "{}", `low` \\\\ {quality}: a #1, b=c'


@pytest.fixture
def project(tmp_path: Path, repository: Path, monkeypatch) -> Path:
    shutil.copytree(repository / "conf", tmp_path / "conf")
    shutil.copy(repository / "pyproject.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def declare(project: Path, params: object) -> None:
    (project / "conf/base/sets.yml").write_text(yaml.safe_dump({"sets": {"mini_sd": {}, "own": {"params": params}}}))


@pytest.mark.parametrize(
    ("params", "generation"),
    [
        ({"generation.negative_prompt": TEXT}, {"negative_prompt": TEXT}),
        ("generation.negative_prompt=blurry, low quality", {"negative_prompt": "blurry, low quality"}),
        ("generation.prompt_template={} in watercolor,generation.steps=4",
         {"prompt_template": "{} in watercolor", "steps": 4}),
    ],
)  # fmt: skip
def test_its_settings_are_what_sets_yml_says(project: Path, monkeypatch, params: object, generation: dict):
    started: list[tuple] = []
    monkeypatch.setattr(runs, "run_pipelines", lambda _, pipelines, parameters: started.append((pipelines, parameters)))
    declare(project, params)
    assert main(["set", "make", "own"]) == 0
    assert started == [(["generation"], {"set": "own", "generation": generation})]


def test_a_set_that_is_not_declared_names_those_that_are(project: Path, caplog):
    assert main(["set", "make", "mini_ds"]) == 1
    assert "Profile base, sets.yml: there is no 'mini_ds'. Did you mean mini_sd?" in caplog.text
