"""The notebooks run from top to bottom, each on small data of its kind."""

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from gmail_kedro.mini.world.params import MiniWorldParams
from gmail_kedro.mini.world.world_files import DATASET_FILE, draw_world
from gmail_kedro.mini.world.written_folder import write_folder

from .pipelines.conftest import make_project
from .reporting.reproductions import write_reproduction

pytestmark = pytest.mark.slow


def execute(notebook: Path, folder: Path, **environment: str) -> list[str]:
    """Executes a notebook as if it lay in the folder; returns what its cells printed and showed, as text."""
    import nbformat
    from nbclient import NotebookClient

    content = nbformat.read(notebook, as_version=4)
    commands = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # a notebook starts `kedro` by name
    kernel = {"env": os.environ | environment | {"PATH": commands}}
    client = NotebookClient(content, timeout=300, resources={"metadata": {"path": str(folder)}}, kernel_name="python3")
    client.execute(**kernel)
    return ["\n".join(_said(output) for output in cell.outputs) for cell in content.cells if cell.cell_type == "code"]


def _said(output: Any) -> str:
    data = output.get("data", {})
    return output.get("text", "") + data.get("text/plain", "") + " ".join(kind for kind in data if "image" in kind)


def test_the_results_are_read(tmp_path: Path, repository: Path):
    write_reproduction(tmp_path)
    results = {"GMAIL_TABLES": str(tmp_path / "tables.parquet"), "GMAIL_RUNS": str(tmp_path / "repro")}
    said = execute(repository / "notebooks/read_results.ipynb", repository / "notebooks", **results)
    assert "20 numbers in 4 tables" in said[0]
    assert "Of the 5 differences the paper reports, 1 holds here" in said[1]
    assert "Table 1: Image captioning" in said[2] and "4.5" in said[3]
    assert "gmail, seed 0" in said[4] and "image/svg+xml" in said[5]
    assert "image/png" in said[6] and "1 of 5 runs left their planes" in said[6]


def test_your_own_real_images_are_paired(tmp_path: Path, repository: Path):
    make_project(tmp_path, repository)
    shutil.copytree(repository / "notebooks", tmp_path / "notebooks")
    own = tmp_path / "data/00_own"
    write_folder(own, draw_world(MiniWorldParams(train_count=12, val_count=8, test_count=4, seed=0)))
    (own / DATASET_FILE).rename(own / "dataset.json")  # it is in Karpathy's layout, as the notebook's real images are
    said = execute(tmp_path / "notebooks/your_own_data.ipynb", tmp_path / "notebooks")
    assert "exit code 0" in said[0] and "Corpus own: 24 of 24 images taken, 120 captions" in said[0]
    assert "12 pairs of 12 photographs" in said[1]
    assert "image/" in said[2]
    assert said[4].count("\n") > 5 and "the whole of Flickr8k is expected:" in said[4]
