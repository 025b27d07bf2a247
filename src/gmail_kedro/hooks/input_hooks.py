"""What a run needs and has not got is said before its first node, with the command that makes it."""

from collections.abc import Mapping
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from gmail_kedro.evaluation.splits import evaluation_rows

CORPUS, BENCHMARK, EVALUATION = "corpus", "benchmark_corpus", "params:evaluation"
BASELINE = "baseline_"  # begins the names of what another run made
CORPORA = ("mini_world",)  # pipelines whose results say themselves how they are made


class InputHooks:
    """Refuses a run without its inputs, or with too few photographs to measure on."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Looks for every stored input that another pipeline makes, and at the split that is measured on.

        Raises:
            DatasetError: If the pipeline would write a corpus of photographs.
            FileNotFoundError: If an input is not there; names all of them, and the pipelines that make them.
            ValueError: If the split has fewer photographs than an evaluation needs.
        """
        refuse_writing_photographs(pipeline, catalog)
        refuse_missing(pipeline, catalog, pipelines)
        inputs = pipeline.inputs()
        # A benchmark that this very run makes (the mini world) is not there yet, or is another.
        is_made = {BENCHMARK, CORPUS} & pipeline.all_outputs()
        if {BENCHMARK, EVALUATION} <= inputs and not is_made and catalog.exists(BENCHMARK):
            evaluation_rows(catalog[BENCHMARK].load(), catalog[EVALUATION].load())


def refuse_writing_photographs(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuses the pipeline that makes the mini world, with which the default begins, beside a corpus of one's own.

    Raises:
        DatasetError: If there is such a corpus; says what to run instead.
    """
    corpus = catalog.get(CORPUS)
    corpus = getattr(corpus, "_dataset", corpus)  # the one that is kept in memory
    refusal = getattr(corpus, "read_only", "")
    if CORPUS in pipeline.all_outputs() and refusal:
        raise DatasetError(refusal)


def refuse_missing(pipeline: Pipeline, catalog: CatalogProtocol, registered: Mapping[str, Pipeline]) -> None:
    """Refuses a pipeline with inputs that another one makes and that are not there.

    Args:
        pipeline: What is to run.
        catalog: Says what is there.
        registered: All pipelines, by name.

    Raises:
        FileNotFoundError: If there are such inputs.
    """
    missing = {}
    for name in sorted(pipeline.inputs()):
        place = _place(catalog.get(name))
        maker = _maker(name, registered)
        if place and maker and maker not in CORPORA and not catalog.exists(name):
            missing[name] = (place, maker)
    if missing:
        found = ", ".join(f"{name} ({place})" for name, (place, _) in missing.items())
        makers = {maker for _, maker in missing.values()}
        commands = ", then ".join(f"kedro run --pipeline={name}" for name in registered if name in makers)
        other = " (what is the baseline's: with its name as run_id)" if any(map(_is_baseline, missing)) else ""
        raise FileNotFoundError(
            f"What the run needs is not there: {found}. Make it first, with the same --env and --params{other}: "
            f"{commands}"
        )


def _place(dataset: Any) -> str:
    """Returns where a dataset is stored; nothing for what is in memory only."""
    place = getattr(dataset, "filepath", None) or getattr(dataset, "_filepath", None)
    return "" if place is None else str(place)


def _is_baseline(name: str) -> bool:
    return name.startswith(BASELINE)


def _maker(name: str, registered: Mapping[str, Pipeline]) -> str | None:
    """Returns the smallest pipeline with an output, in whatever form."""
    stored = name.removeprefix(BASELINE).partition("@")[0]
    makers = [
        maker
        for maker, pipeline in registered.items()
        if stored in {output.partition("@")[0] for output in pipeline.all_outputs()}
    ]
    return min(makers, key=lambda maker: len(registered[maker].nodes), default=None)
