"""Everything that can be refused is refused here, before the first node, the lock and the MLflow run.

One hook, so that the order of the checks is written in one place: pluggy's depends on who was registered last.
"""

from collections.abc import Mapping
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from gmail_kedro.evaluation.measured_sets import check_class_sets
from gmail_kedro.evaluation.splits import evaluation_rows
from gmail_kedro.hooks.catalog_hooks import BENCHMARK, place_of
from gmail_kedro.models.inventory import check_models
from gmail_kedro.params.run import RunParams

ADAPTER, CLASS_SETS, CORPUS, GENERATED_IMAGES = "adapter", "class_sets", "corpus", "generated_images"
PARAMETERS = "params:"
BASELINE = "baseline_"  # begins the names of what another run made
CORPORA = ("mini_world",)  # pipelines whose results say themselves how they are made
SPLITTING_RUNNERS = ("ParallelRunner", "ThreadRunner")


class InputHooks:
    """Refuses a run that cannot end well; what costs least to find out comes first."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Checks runner, inputs, splits, models, devices and classification sets; reads no image.

        Raises:
            DatasetError: If the pipeline would write over a corpus of real images.
            FileNotFoundError: If an input is not there; names all of them, and the pipelines that make them.
            ValueError: For anything else.
        """
        refuse_splitting(str(run_params.get("runner")))
        # Before missing inputs: the default begins with a pipeline that would write over one's own corpus.
        refuse_writing_own_corpus(pipeline, catalog)
        refuse_missing(pipeline, catalog, pipelines)
        refuse_small_split(pipeline, catalog)
        refuse_other_student(pipeline, catalog)
        refuse_class_sets(pipeline, catalog)
        refuse_models(pipeline, catalog)


def refuse_splitting(runner: str) -> None:
    """Refuses runners with several threads or processes: each would get an MLflow run of its own.

    Raises:
        ValueError: If the runner is one of ``SPLITTING_RUNNERS``.
    """
    for name in SPLITTING_RUNNERS:
        if name in runner:
            raise ValueError(
                f"The runner {name} would split this run over several MLflow runs. Leave --runner away: "
                "nodes run one after the other, and use all cores and GPUs themselves."
            )


def refuse_writing_own_corpus(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
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
        place, maker = place_of(catalog.get(name)), _maker(name, registered)
        if place and maker and maker not in CORPORA and not catalog.exists(name):
            missing[name] = (place, maker)
    if missing:
        found = ", ".join(f"{name} ({place})" for name, (place, _) in missing.items())
        makers = {maker for _, maker in missing.values()}
        commands = ", then ".join(f"kedro run --pipeline={name}" for name in registered if name in makers)
        is_baseline = any(name.startswith(BASELINE) for name in missing)
        other = " (what is the baseline's: with its name as run_id)" if is_baseline else ""
        raise FileNotFoundError(
            f"What the run needs is not there: {found}. Make it first, with the same --env and --params{other}: "
            f"{commands}"
        )


def _maker(name: str, registered: Mapping[str, Pipeline]) -> str | None:
    """Returns the smallest pipeline with an output, in whatever form."""
    stored = name.removeprefix(BASELINE).partition("@")[0]
    makers = [
        maker
        for maker, pipeline in registered.items()
        if stored in {output.partition("@")[0] for output in pipeline.all_outputs()}
    ]
    return min(makers, key=lambda maker: len(registered[maker].nodes), default=None)


def refuse_small_split(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuses a split with fewer real images than an evaluation needs."""
    # A benchmark that this very run makes (the mini world) is not there yet, or is another.
    is_made = {BENCHMARK, CORPUS} & pipeline.all_outputs()
    if {BENCHMARK, "params:evaluation"} <= pipeline.inputs() and not is_made and catalog.exists(BENCHMARK):
        evaluation_rows(catalog[BENCHMARK].load(), catalog["params:evaluation"].load())


def refuse_other_student(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuses a generated set beside a student of another one, where the pipeline finds both on disk."""
    from gmail_kedro.models.student.student import refuse_other_set  # takes torch's seconds

    if {ADAPTER, GENERATED_IMAGES} <= pipeline.inputs():
        refuse_other_set(catalog[ADAPTER].load(), catalog[GENERATED_IMAGES].load().identity)


def refuse_class_sets(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuses classification sets that are not there; opens those that are measured or trained on."""

    def labels() -> list[str] | None:  # of the corpus's own tasks, if the pipeline has not yet to make the corpus
        return list(catalog[BENCHMARK].load().labels) if catalog.exists(BENCHMARK) else None

    if CLASS_SETS in pipeline.inputs():
        evaluation, fine_tuning = (catalog[f"{PARAMETERS}{name}"].load() for name in ("evaluation", "fine_tuning"))
        check_class_sets(catalog[CLASS_SETS].load(), labels, evaluation, fine_tuning)


def refuse_models(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuses models and devices that do not exist, of all that the pipeline's parameters name."""
    names = [name for name in pipeline.inputs() if name.startswith(PARAMETERS)]
    groups = {name.removeprefix(PARAMETERS): catalog[name].load() for name in names}
    check_models(groups)
    run = groups.get(RunParams.GROUP)
    if isinstance(run, RunParams) and run.device != "auto" and run.engine == "local":
        from gmail_kedro.hardware import resolve_device  # takes torch's seconds

        resolve_device(run.device)
