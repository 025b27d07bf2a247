"""The classification sets of a run: the corpus's own tasks and the sets of the catalog, opened before any work.

Sets are big downloads of many homes. So all that are missing are told at once, before the first hour of training.
"""

from collections.abc import Callable, Collection, Mapping
from functools import cache

from gmail_kedro.corpora.classification_tasks import check_set, with_val
from gmail_kedro.evaluation.splits import evaluation_rows
from gmail_kedro.interfaces import ClassificationTask, Corpus, LabelledImages, TrainingSplits
from gmail_kedro.params.evaluation import EvaluationParams
from gmail_kedro.params.fine_tuning import FineTuningParams

ClassSets = Mapping[str, Callable[[], LabelledImages]]


def open_class_sets(class_sets: ClassSets, corpus: Corpus, params: EvaluationParams) -> dict[str, LabelledImages]:
    """Returns the sets that are measured, by name: of the corpus's tasks and of the catalog, those that are wanted.

    Raises:
        FileNotFoundError: If sets are missing on disk; the message lists them all.
        ValueError: If sets are damaged, a name is unknown, or a task and a set have the same name.
    """
    if twice := sorted(class_sets.keys() & corpus.labels.keys()):
        raise ValueError(f"The names {twice} are those of tasks of {corpus.name!r} and of sets of the catalog. Rename.")
    wanted = wanted_names(params, [*corpus.labels, *class_sets])
    tasks = {name: corpus.labels[name] for name in wanted if name in corpus.labels}
    return _own_sets(corpus, tasks, params) | read_all({name: class_sets[name] for name in wanted if name not in tasks})


def check_class_sets(
    class_sets: ClassSets,
    own: Callable[[], Collection[str] | None],
    params: EvaluationParams,
    fine_tuning: FineTuningParams,
) -> None:
    """Checks that the sets of the catalog that are measured, and trained on, are there; reads no image.

    Args:
        class_sets: What reads each set of the catalog.
        own: Returns the names of the corpus's own tasks, or None where they are not known yet; called where a name is
            not the catalog's.
        params: Which sets are measured, and whether linear probes are trained.
        fine_tuning: Which sets are fine-tuned on.

    Raises:
        FileNotFoundError: If sets are missing on disk; the message lists them all.
        ValueError: If sets are damaged, or a name is unknown.
    """
    wanted = list(class_sets) if params.class_sets is None else params.class_sets
    # The corpus is opened only where a name may be its own: that takes minutes for a big one.
    others = [] if {*wanted, *fine_tuning.sets} <= class_sets.keys() else own()
    if others is not None:
        refuse_unmeasured(fine_tuning, wanted_names(params, [*others, *class_sets]))
    present = {name: class_sets[name] for name in wanted if name in class_sets}
    read_all(present, trained=present if params.linear_probe else fine_tuning.sets)


def refuse_unmeasured(fine_tuning: FineTuningParams, measured: Collection[str]) -> None:
    """Refuses to fine-tune on a set that is not measured."""
    if absent := [name for name in fine_tuning.sets if name not in measured]:
        raise ValueError(
            f"The parameter fine_tuning.sets must name sets that are measured: {sorted(measured)}. Got {absent} too. "
            "Add them to evaluation.class_sets."
        )


def wanted_names(params: EvaluationParams, known: Collection[str]) -> list[str]:
    """Returns the names of the sets that are measured, among those that there are."""
    if params.class_sets is None:
        return list(known)
    if unknown := [name for name in params.class_sets if name not in known]:
        raise ValueError(
            f"The parameter evaluation.class_sets names {unknown}, which are neither tasks of the corpus nor sets of "
            f"the catalog's class_sets. Choose among {sorted(known)}, or null for all."
        )
    return list(params.class_sets)


def read_all(class_sets: ClassSets, *, trained: Collection[str] = ()) -> dict[str, LabelledImages]:
    """Returns all sets, none of their images read; what is wrong with several is told at once.

    Args:
        class_sets: What reads each.
        trained: Names of those whose training splits must be there too.

    Raises:
        FileNotFoundError: If sets are missing on disk; ``ValueError`` if sets are damaged, too.
    """
    found: dict[str, LabelledImages] = {}
    faults: list[Exception] = []
    for name, read in class_sets.items():
        try:
            found[name] = read()
            if name in trained:
                found[name].training()
        except (OSError, ValueError) as error:
            faults.append(error)
    if faults:
        kind = FileNotFoundError if all(isinstance(fault, FileNotFoundError) for fault in faults) else ValueError
        listed = "".join(f"\n- {fault}" for fault in faults)
        raise kind(
            f"{len(faults)} of the {len(class_sets)} classification sets that are measured cannot be read. Bring them, "
            f"or name only those you have in evaluation.class_sets.{listed}"
        )
    return found


def _own_sets(
    corpus: Corpus, tasks: Mapping[str, ClassificationTask], params: EvaluationParams
) -> dict[str, LabelledImages]:
    """Returns tasks of the corpus as sets: measured on the images that the evaluation looks at."""
    if not tasks:
        return {}
    measured = dict.fromkeys(evaluation_rows(corpus, params)["image_id"])
    return {name: check_set(_own_set(corpus, name, task, measured, params)) for name, task in tasks.items()}


def _own_set(
    corpus: Corpus, name: str, task: ClassificationTask, measured: Collection[str], params: EvaluationParams
) -> LabelledImages:
    labels = {image_id: task.labels[image_id] for image_id in measured if image_id in task.labels}

    def read_training() -> TrainingSplits:
        split_of = corpus.captions.drop_duplicates("image_id").set_index("image_id")["split"]
        splits = {
            split: {key: task.labels[key] for key in split_of.index[split_of == split] if key in task.labels}
            for split in ("train", "val")
            if split != params.split  # what is measured on does not choose the weight decay
        }
        return TrainingSplits(corpus.images, with_val(splits))

    measured_task = ClassificationTask(task.classes, task.templates, labels)
    return LabelledImages(name, corpus.images, measured_task, "acc1", cache(read_training))
