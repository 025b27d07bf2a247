"""What one pipeline leaves is what the next one needs, one at a time and in the studies."""

from pathlib import Path

import pytest
import yaml
from kedro.pipeline import Pipeline

from gmail_kedro.commands.runs import DATA_PIPELINES
from gmail_kedro.pipeline_registry import register_pipelines

ONE_AT_A_TIME = [*DATA_PIPELINES, "align", "downstream", "diagnostics", "evaluation", "reporting"]


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    return register_pipelines()


def names(datasets: set[str]) -> set[str]:
    """Without what follows @: how a file is read."""
    return {dataset.partition("@")[0] for dataset in datasets}


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
