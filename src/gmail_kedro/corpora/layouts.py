"""Reads a captioned corpus by the name of its layout on disk, and holds it to its protocol."""

import inspect
import logging
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gmail_kedro.corpora.caption_table import CaptionTable
from gmail_kedro.corpora.classification_tasks import read_classification
from gmail_kedro.corpora.coco import read_coco
from gmail_kedro.corpora.corpus_protocols import CorpusProtocol, Count, apply_protocol, check_counts
from gmail_kedro.corpora.flickr import read_flickr
from gmail_kedro.corpora.image_folder import read_image_folder
from gmail_kedro.corpora.karpathy import read_karpathy
from gmail_kedro.corpora.sharegpt4v import read_sharegpt4v
from gmail_kedro.corpora.skipped_entries import SKIP_LIMIT
from gmail_kedro.corpora.table_corpus import read_table
from gmail_kedro.corpora.webdataset import read_webdataset
from gmail_kedro.interfaces import ClassificationTask, Corpus

logger = logging.getLogger(__name__)

LAYOUTS: Mapping[str, Callable[..., CaptionTable]] = MappingProxyType(
    {
        "karpathy": read_karpathy,
        "coco": read_coco,
        "flickr": read_flickr,
        "sharegpt4v": read_sharegpt4v,
        "table": read_table,
        "webdataset": read_webdataset,
        "folder": read_image_folder,
    }
)
OWN = ("name", "home", "train_splits")  # arguments of readers that come from the name and the protocol


def check_places(layout: str, places: Mapping[str, Any], *, name: str) -> None:
    """Refuses a catalog entry with an unknown layout, or unknown or missing keys for it; lists the known ones."""
    if layout not in LAYOUTS:
        raise ValueError(f"The layout of the corpus {name!r} must be one of {sorted(LAYOUTS)}. Got {layout!r} instead.")
    # The readers' signatures are the list of keys: a new option of a layout is known here by itself.
    arguments = {key: value for key, value in inspect.signature(LAYOUTS[layout]).parameters.items() if key not in OWN}
    unknown = sorted(set(places) - set(arguments))
    required = [key for key, argument in arguments.items() if argument.default is argument.empty]
    missing = [key for key in required if places.get(key) is None]
    if unknown or missing:
        raise ValueError(
            f"The corpus {name!r} with the layout {layout!r} takes the keys {list(arguments)}, of which {required} "
            f"must be given. Unknown: {unknown}; missing: {missing}. Correct its catalog entry."
        )


def read_corpus(
    layout: str,
    places: Mapping[str, Any],
    *,
    name: str,
    protocol: CorpusProtocol,
    expected: Mapping[str, Count],
    skip_limit: float = SKIP_LIMIT,
    classification: Path | None = None,
) -> Corpus:
    """Returns a captioned corpus: captions in memory, images read when asked for.

    Args:
        layout: Name of a layout.
        places: The keys of its reader: where the files lie.
        name: What reports and messages call the corpus.
        protocol: Which part of it is meant.
        expected: Counts by split that must come out; empty counts nothing.
        skip_limit: Largest share of the entries that may be left out as unusable, in [0, 1].
        classification: A file as in ``read_classification``, its labels by this corpus's image ids; or None.

    Raises:
        FileNotFoundError: If a file or folder does not exist; the message says where it comes from.
        ValueError: If a file is not of its layout, too much of it cannot be used, or the counts differ.
    """
    check_places(layout, places, name=name)
    options = dict(places)
    if layout == "karpathy":  # it divides itself; what is left are our names of the splits
        options["train_splits"], protocol = protocol.train_splits, replace(protocol, train_splits=("train",))
    found = LAYOUTS[layout](**options, name=name, home=protocol.home)
    if found.captions.empty and not found.skipped.counts:
        raise ValueError(f"The files of the corpus {name!r} hold no entry: {_show(places)}. Fill or name others.")
    # Before the protocol: of a split that is left out, too, so that a broken file is told whatever is taken of it.
    found.skipped.check(taken=len(found.captions), limit=skip_limit, name=name)
    if protocol.first_to_test and "position" not in found.captions and found.skipped.counts:
        raise ValueError(
            f"The first {protocol.first_to_test} images of the corpus {name!r} are its test, but entries were left "
            f"out ({dict(found.skipped.counts)}) and others would move up. Mend them, or divide it by held_out."
        )
    captions = apply_protocol(found.captions, protocol, name=name).reset_index(drop=True)
    captions = captions.drop(columns="position", errors="ignore")
    check_counts(captions, expected, name=name, left_out=sum(found.skipped.counts.values()))
    tasks = {} if classification is None else read_classification(classification)
    _check_labels(tasks, set(captions["image_id"]) if tasks else set(), name)
    return Corpus(name=name, captions=captions, images=found.images, labels=tasks, skipped=found.skipped.counts)


def _check_labels(tasks: Mapping[str, ClassificationTask], image_ids: Set[str], name: str) -> None:
    """Refuses tasks that label no image of a corpus."""
    for task_name, task in tasks.items():
        if image_ids.isdisjoint(task.labels):
            raise ValueError(
                f"Task {task_name!r} must label images of the corpus {name!r} by image id, such as "
                f"{min(image_ids)!r}. Got none, but ids such as {next(iter(task.labels))!r}. Use the ids of the corpus "
                "(in Karpathy's layout the cocoid, or else the imgid) as strings."
            )
        if strangers := [image_id for image_id in task.labels if image_id not in image_ids]:
            logger.warning(
                "Task %s: %d of its %d labels are of no image of the corpus %s, such as %s",
                task_name, len(strangers), len(task.labels), name, strangers[0],
            )  # fmt: skip


def _show(places: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} '{places[key]}'" for key in ("annotations", "images", "tars") if key in places)
