"""Every file that a catalog writes is whole or is not there, in every profile."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import AbstractDataset, DatasetError
from kedro.io.core import parse_dataset_definition
from matplotlib.figure import Figure

from gmail_kedro.datasets.atomic_files import CSVDataset, JSONDataset, ParquetDataset, TextDataset, WholeFile
from gmail_kedro.datasets.figures import MatplotlibDataset
from gmail_kedro.pipeline_registry import register_pipelines
from gmail_kedro.settings import CONFIG_LOADER_ARGS
from gmail_kedro.whole_files import SUMS

KINDS: list[tuple[type, Any, Any]] = [
    (JSONDataset, {"a": 1}, {"a": 2}),
    (TextDataset, "one", "two"),
    (CSVDataset, pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
    (ParquetDataset, pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
    (MatplotlibDataset, Figure(figsize=(1, 1)), Figure(figsize=(2, 1))),
]
# Classes of this package that write under another name and rename, each tested in its own file.
OWN = {"BlocksDataset", "ImageShardsDataset", "AdapterDataset", "PretrainedDataset", "FeatureMapDataset"}
OWN |= {"MiniWorldDataset", "MiniQuestionsDataset"}
WRITE_NOTHING = {"MemoryDataset", "CorpusDataset", "QuestionsDataset"}


def kedros_class(kind: type) -> type:
    """Returns the class of kedro-datasets that a class of ours wraps."""
    return next(parent for parent in kind.__mro__ if parent.__module__.startswith("kedro_datasets"))


@pytest.mark.parametrize(("kind", "first", "second"), KINDS)
def test_what_is_saved_is_what_kedros_own_class_would_save(kind: type, first: Any, second: Any, tmp_path: Path):
    own, kedros = kind(filepath=str(tmp_path / "deep/own")), kedros_class(kind)(filepath=str(tmp_path / "kedros"))
    for content in (first, second):
        own.save(content)
        kedros.save(content)
        assert (tmp_path / "deep/own").read_bytes() == (tmp_path / "kedros").read_bytes()
    assert {file.name for file in (tmp_path / "deep").iterdir()} <= {"own", SUMS}


@pytest.mark.parametrize(("kind", "first", "second"), KINDS)
def test_a_save_that_dies_before_its_end_leaves_the_old_file(
    kind: type, first: Any, second: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    dataset = kind(filepath=str(tmp_path / "file"))
    dataset.save(first)
    old = (tmp_path / "file").read_bytes()

    def die(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", die)
    with pytest.raises(KeyboardInterrupt):
        dataset.save(second)
    assert (tmp_path / "file").read_bytes() == old and {file.name for file in tmp_path.iterdir()} <= {"file", SUMS}


def test_what_does_not_fit_the_format_is_refused_and_the_old_file_stays(tmp_path: Path):
    dataset = JSONDataset(filepath=str(tmp_path / "a.json"))
    dataset.save({"a": 1})
    with pytest.raises(DatasetError, match="not JSON serializable"):
        dataset.save({"a": 1, "b": object()})
    assert dataset.load() == {"a": 1}


def test_a_table_whose_last_line_was_cut_is_refused(tmp_path: Path):
    dataset = CSVDataset(filepath=str(tmp_path / "a.csv"), save_args={"index": False})
    dataset.save(pd.DataFrame({"step": [0, 1], "loss": [1.25, 1.125]}))
    whole = (tmp_path / "a.csv").read_text()
    (tmp_path / "a.csv").write_text(whole[:-3])  # 1.1 would be a number too
    (tmp_path / SUMS).unlink()  # as beside a file of an earlier version
    with pytest.raises(DatasetError, match=r"a\.csv was cut: its last line has no end"):
        dataset.load()


def test_a_table_without_rows_and_columns_comes_back(tmp_path: Path):
    dataset = CSVDataset(filepath=str(tmp_path / "a.csv"), save_args={"index": False})
    dataset.save(pd.DataFrame([]))
    assert dataset.load().empty


@pytest.mark.parametrize("profile", ["base", "own_corpus", "paper", "pretraining"])
def test_every_entry_that_a_pipeline_writes_is_written_whole(profile: str, repository: Path):
    arguments: dict[str, Any] = dict(CONFIG_LOADER_ARGS)
    entries = OmegaConfigLoader(str(repository / "conf"), env=profile, **arguments)["catalog"]
    written = set().union(*(pipeline.outputs() | pipeline.all_outputs() for pipeline in register_pipelines().values()))
    written = {name.partition("@")[0] for name in written}
    kinds: dict[str, type[AbstractDataset]] = {
        name: parse_dataset_definition(entry.get("dataset", entry))[0]
        for name, entry in entries.items()
        if name.partition("@")[0] in written and not name.startswith("_")
    }
    assert len(kinds) > 40
    in_place = {
        name: kind.__name__
        for name, kind in kinds.items()
        if not issubclass(kind, WholeFile) and kind.__name__ not in OWN | WRITE_NOTHING
    }
    assert in_place == {}


@pytest.mark.parametrize(("kind", "first"), [KINDS[0][:2], KINDS[2][:2], KINDS[3][:2]])
@pytest.mark.parametrize("damage", ["one byte", "cut", "emptied"])
def test_a_file_that_is_read_again_is_the_one_that_was_written(kind: type, first: Any, damage: str, tmp_path: Path):
    path = tmp_path / "scores"
    dataset = kind(filepath=str(path))
    dataset.save(first)
    dataset.load()
    content = path.read_bytes()
    changed = bytes([content[0], content[1] ^ 1, *content[2:]])
    path.write_bytes({"one byte": changed, "cut": content[: len(content) // 2], "emptied": b""}[damage])
    with pytest.raises(DatasetError, match=f"{path.name} is not what was written.*Run the pipeline that writes it"):
        dataset.load()
    dataset.save(first)
    dataset.load()


def test_checksums_are_those_of_sha256sum_and_a_line_taken_out_lets_a_file_pass(tmp_path: Path):
    for name in ("b.json", "a.json"):
        JSONDataset(filepath=str(tmp_path / name)).save({"name": name})
    checked = subprocess.run(["sha256sum", "--check", SUMS], cwd=tmp_path, capture_output=True, text=True)
    assert checked.stdout.split() == ["a.json:", "OK", "b.json:", "OK"]
    (tmp_path / "a.json").write_text('{"name": "mine"}')
    lines = (tmp_path / SUMS).read_text().splitlines(keepends=True)
    (tmp_path / SUMS).write_text(lines[1])
    assert JSONDataset(filepath=str(tmp_path / "a.json")).load() == {"name": "mine"}
