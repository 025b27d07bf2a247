"""Nodes have names, tags and layers; what one pipeline leaves the next one needs, one at a time and in the studies."""

import re
from pathlib import Path

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.pipeline import Pipeline

from gmail_kedro.commands.runs import DATA_PIPELINES
from gmail_kedro.pipeline_registry import register_pipelines
from gmail_kedro.settings import CONFIG_LOADER_ARGS

ONE_AT_A_TIME = [*DATA_PIPELINES, "align", "downstream", "diagnostics", "evaluation", "reporting"]


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    return register_pipelines()


def names(datasets: set[str]) -> set[str]:
    """Without what follows @: how a file is read."""
    return {dataset.partition("@")[0] for dataset in datasets}


def catalog_of(repository: Path, env: str) -> dict[str, dict]:
    return OmegaConfigLoader(str(repository / "conf"), env=env, **CONFIG_LOADER_ARGS)["catalog"]


def test_every_node_has_a_name_of_its_own_of_a_few_words(pipelines: dict[str, Pipeline]):
    nodes = {node for name, pipeline in pipelines.items() if name != "stages" for node in pipeline.nodes}
    named = [node.name for node in nodes]
    assert len(named) > 40 and len(set(named)) == len(named)
    assert not [name for name in named if not re.fullmatch(r"[a-z]+(_[a-z]+){0,3}", name)]


def test_tags_take_a_pipeline_s_nodes_and_names_take_one(pipelines: dict[str, Pipeline]):
    run = {name: pipeline for name, pipeline in pipelines.items() if name != "stages"}
    every = sum(run.values(), Pipeline([]))
    for name in run.keys() - {"__default__", "gmail", "experiment", "align"}:
        tagged = every.only_nodes_with_tags(name)
        assert {node.name for node in run[name].nodes} == {node.name for node in tagged.nodes}, name
    default = pipelines["__default__"]
    assert {node.name for node in default.only_nodes_with_tags("alignment").nodes} == {
        "encode_teacher",
        "align",
        "fit_training_free",
    }
    assert "align" in {node.name for node in default.to_nodes("align").nodes}


def test_the_stages_are_gmail_in_five_boxes(pipelines: dict[str, Pipeline]):
    stages, gmail = pipelines["stages"], pipelines["gmail"]
    assert {node.namespace for node in stages.nodes} == {
        "generation",
        "pairing",
        "alignment",
        "downstream",
        "evaluation",
    }
    computed = {(node.func, tuple(node.inputs), tuple(node.outputs)) for node in stages.nodes}
    assert computed == {(node.func, tuple(node.inputs), tuple(node.outputs)) for node in gmail.nodes}
    assert not {str(node) for node in stages.nodes} & {str(node) for node in gmail.nodes}  # Kedro-Viz goes by these


def test_every_stored_output_has_a_layer(pipelines: dict[str, Pipeline], repository: Path):
    catalog = catalog_of(repository, "base") | catalog_of(repository, "pretraining")
    outputs = set().union(*(pipeline.all_outputs() for pipeline in pipelines.values()))
    stored = {name: catalog[name] for name in outputs if name in catalog and catalog[name]["type"] != "MemoryDataset"}
    layers = {name: entry.get("metadata", {}).get("kedro-viz", {}).get("layer") for name, entry in stored.items()}
    assert len(stored) > 40 and [name for name, layer in layers.items() if layer is None] == []
    assert set(layers.values()) == {"raw", "generated set", "pairs", "models", "predictions", "reports"}


def missing(pipelines: dict[str, Pipeline], wanted: list[str], before: list[str]) -> set[str]:
    """Returns what pipelines, as one, need of other pipelines that were not run before."""
    made_by_any = names(set().union(*(pipeline.outputs() for pipeline in pipelines.values())))
    made = names(set().union(*(node.outputs for name in before for node in pipelines[name].nodes)))
    whole = sum((pipelines[name] for name in wanted), Pipeline([]))
    return (names(whole.inputs()) & made_by_any) - made


def test_the_readme_s_order_works(pipelines: dict[str, Pipeline], repository: Path):
    listed = [name for name in ONE_AT_A_TIME if f"--pipeline={name} " in (repository / "README.md").read_text()]
    assert listed == [name for name in ONE_AT_A_TIME if name not in ("mini_world", "reporting")]
    for place, name in enumerate(ONE_AT_A_TIME):
        assert missing(pipelines, [name], ONE_AT_A_TIME[:place]) == set(), name


def test_every_study_trains_what_it_measures(pipelines: dict[str, Pipeline], repository: Path):
    studies = yaml.safe_load((repository / "conf/base/study.yml").read_text())
    for name, study in studies.items():
        taken = studies[study["models_of"]]["pipelines"] if "models_of" in study else []
        assert missing(pipelines, study["pipelines"], [*DATA_PIPELINES, *taken]) == set(), name


def test_a_pipeline_that_is_left_out_is_missed(pipelines: dict[str, Pipeline]):
    assert "captioner" in missing(pipelines, ["evaluation"], [*DATA_PIPELINES, "align", "diagnostics"])
