"""What ``kedro run --pipeline=<name>`` can run."""

from kedro.pipeline import Pipeline, node

from gmail_kedro.mini.pretraining import pipeline as pretraining
from gmail_kedro.mini.world import pipeline as mini_world
from gmail_kedro.pipelines import (
    alignment,
    classification,
    diagnostics,
    downstream,
    evaluation,
    generation,
    pairing,
    reporting,
    transfer,
    vision_language,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Returns every pipeline by name.

    ``gmail`` is the paper on the corpus in the catalog, ``experiment`` is one row of a table on a set that is
    already generated, and the default makes the mini world first. ``transfer`` measures a finished run on other
    corpora; ``comparison`` sets it beside another, named by the parameter ``baseline``; ``tables`` gathers the runs of
    the reproduction, ``report`` shows them in one page. ``fine_tuning``, also a part of ``downstream``, trains
    classifiers on the sets that ``fine_tuning.sets`` names. ``pretraining`` makes the packaged mini weights. ``stages``
    is ``gmail`` to look at in Kedro-Viz: five boxes that open.
    """
    fine_tuning = classification.create_fine_tuning()
    parts = {
        "mini_world": mini_world.create_pipeline(),
        "generation": generation.create_pipeline(),
        "pairing": pairing.create_pipeline(),
        "alignment": alignment.create_pipeline(),
        "downstream": downstream.create_pipeline() + fine_tuning,
        "diagnostics": diagnostics.create_pipeline(),
        "evaluation": evaluation.create_pipeline() + classification.create_pipeline(),
        "reporting": reporting.create_pipeline(),
        "transfer": transfer.create_pipeline(),
        "vision_language": vision_language.create_pipeline(),
    }
    training = parts["alignment"] + parts["downstream"]
    experiment = training + parts["diagnostics"] + parts["evaluation"] + parts["reporting"]
    gmail = parts["generation"] + parts["pairing"] + experiment
    stages = {
        **{name: parts[name] for name in ("generation", "pairing", "alignment", "downstream")},
        "evaluation": parts["diagnostics"] + parts["evaluation"] + parts["reporting"],
    }
    return parts | {
        "align": parts["alignment"],
        "comparison": reporting.create_comparison(),
        "experiment": experiment,
        "fine_tuning": fine_tuning,
        "gmail": gmail,
        "pretraining": pretraining.create_pipeline(),
        "report": reporting.create_report(),
        "stages": sum((_as_box(name, stage) for name, stage in stages.items()), Pipeline([])),
        "tables": reporting.create_tables(),
        "__default__": parts["mini_world"] + gmail,
    }


def _as_box(name: str, stage: Pipeline) -> Pipeline:
    """Returns a pipeline that Kedro-Viz draws as one box, with its nodes inside."""
    # Namespaces make the boxes. Only here, so that `--to-nodes=align` needs none; and with other names, because
    # Kedro-Viz 12.5 takes a node with and one without a namespace for the same and draws both.
    nodes = [
        node(one.func, one.inputs, one.outputs[0] if len(one.outputs) == 1 else one.outputs, name=f"{name}.{one.name}")
        for one in stage.nodes
    ]
    return Pipeline(nodes, namespace=name, prefix_datasets_with_namespace=False)
