"""Reads captioned corpora in Karpathy's layout: COCO, Flickr8k, Flickr30k, the mini world, or one's own."""

import logging
from collections.abc import Mapping, Sequence, Set
from pathlib import Path, PurePosixPath
from typing import Any

from gmail_kedro.corpora.columns import CaptionColumns, Reading
from gmail_kedro.corpora.folder import FolderImages
from gmail_kedro.corpora.json_files import read_id, read_json
from gmail_kedro.corpora.picture_files import is_there
from gmail_kedro.corpora.protocols import EVALUATION_SPLITS, TRAIN_SPLITS, check_train_splits
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.tree import require_file, require_folder
from gmail_kedro.interfaces import ClassificationTask

logger = logging.getLogger(__name__)

COLUMNS = ("caption_id", "image_id", "caption", "split", "filename")
KNOWN_SPLITS = (*TRAIN_SPLITS, *EVALUATION_SPLITS)


def read_karpathy(
    annotations: Path,
    images: Path,
    *,
    name: str,
    home: str = "",
    train_splits: Sequence[str] = TRAIN_SPLITS,
    skip_missing: bool = False,
) -> Reading:
    """Returns the captions and the pictures of a corpus.

    The file holds ``{"images": [{filename, imgid or cocoid, split, sentences: [{raw, sentid}, ...]}, ...]}``; a
    picture lies at ``images/filepath/filename``, or ``images/filename`` where there is no ``filepath``. White space
    inside a caption, line ends included, becomes single spaces. No picture is opened.

    Args:
        annotations: The JSON file.
        images: The folder of the pictures.
        name: What messages call the corpus.
        home: Where the files come from, for messages.
        train_splits: Splits of the file that make up ``train``. Those of train and restval that are not named here
            are left out.
        skip_missing: Leave out, and count, the pictures that are not there.

    Returns:
        The captions, one row each in file order: ``caption_id`` (the sentid), ``image_id`` (the cocoid, or else the
        imgid), ``caption``, ``split`` (train, val or test) and ``filename`` (below ``images``), all strings. And the
        pictures by ``image_id``.

    Raises:
        FileNotFoundError: If the file or the folder does not exist.
        ValueError: If ``train_splits`` names val or test, or the file is not of this layout: not JSON, no images, a
            missing key, a repeated id or file name, an unknown split. The message names the file and the entry.
    """
    train_splits = check_train_splits(train_splits)
    annotations = require_file(annotations, name=name, home=home)
    entries = _read_entries(annotations, name)
    images = require_folder(images, name=name, home=home)
    rows: list[tuple[str, str, Any, str, str]] = []
    paths, seen, skipped = {}, _Seen(), Skipped()
    in_splits = 0
    for index, entry in enumerate(entries):
        where = f"Corpus {name!r}, '{annotations}', images[{index}]"
        image_id, filename, split = _read_image(entry, train_splits, where)
        where = f"{where} ({filename!r})"
        seen.add("image id", image_id, where)
        seen.add("filename", filename, where)
        captions = _read_captions(entry, where)
        for caption_id, _ in captions:
            seen.add("sentid", caption_id, where)
        if split is None:
            continue
        in_splits += 1
        if not captions:
            skipped.add("picture without a caption", filename)
        elif is_there(images / filename, filename, skipped, skip_missing=skip_missing):
            paths[image_id] = images / filename
            rows += [(caption_id, image_id, caption, split, filename) for caption_id, caption in captions]
    if not in_splits:
        raise ValueError(
            f"Corpus {name!r}, '{annotations}': none of the {len(entries)} images is in val, test or the train_splits "
            f"{list(train_splits)}. Name the file's training split in train_splits."
        )
    table = CaptionColumns(COLUMNS, skipped)
    table.add_rows(rows, label="caption_id")
    logger.info("Corpus %s: %d of %d pictures taken, %d captions", name, len(paths), len(entries), len(rows))
    return Reading(table.frame(), FolderImages(paths), skipped)


def check_labels(tasks: Mapping[str, ClassificationTask], image_ids: Set[str], *, name: str) -> None:
    """Refuses tasks that label no picture of a corpus.

    Args:
        tasks: The tasks, by name.
        image_ids: The pictures.
        name: What the message calls the corpus.

    Raises:
        ValueError: If there is such a task.
    """
    for task_name, task in tasks.items():
        if image_ids.isdisjoint(task.labels):
            raise ValueError(
                f"Task {task_name!r} must label pictures of the corpus {name!r} by image id, such as "
                f"{min(image_ids)!r}. Got none, but ids such as {next(iter(task.labels))!r}. Use the ids of the corpus "
                "(in Karpathy's layout the cocoid, or else the imgid) as strings."
            )
        if strangers := [image_id for image_id in task.labels if image_id not in image_ids]:
            logger.warning(
                "Task %s: %d of its %d labels are of no picture of the corpus %s, such as %s",
                task_name, len(strangers), len(task.labels), name, strangers[0],
            )  # fmt: skip


class _Seen:
    """Refuses a second use of an id."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], str] = {}

    def add(self, kind: str, value: str, where: str) -> None:
        if (kind, value) in self._first:
            first = self._first[kind, value]
            by = "the same entry" if first == where else first
            raise ValueError(f"{where}: the {kind} {value!r} must be used once only. {by} uses it too. Change one.")
        self._first[kind, value] = where


def _read_entries(annotations: Path, name: str) -> list[Any]:
    content = read_json(annotations, what=f"annotations file of the corpus {name!r}")
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        keys = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"The annotations file '{annotations}' of the corpus {name!r} must be an object with a list 'images' "
            f"(Karpathy's layout). Got {keys} instead. For COCO's own captions_*.json set layout: coco."
        )
    if not content["images"]:
        raise ValueError(f"The annotations file '{annotations}' of the corpus {name!r} lists no images. Add some.")
    return content["images"]


def _read_image(entry: Any, train_splits: tuple[str, ...], where: str) -> tuple[str, str, str | None]:
    """Returns the image id, the file below the images folder, and the split, None if it is to be left out."""
    filename = _require_text(entry, "filename", where)
    folder = _require_text(entry, "filepath", where) if entry.get("filepath") else ""
    path = PurePosixPath(folder, filename)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{where}: the picture must lie below the images folder. Got '{path}' instead. Correct it.")
    where = f"{where} ({str(path)!r})"
    split = _require_text(entry, "split", where)
    known = dict.fromkeys((*KNOWN_SPLITS, *train_splits))
    if split not in known:
        raise ValueError(
            f"{where}: the split must be one of {list(known)}. Got {split!r} instead. Correct it, or name it in "
            "train_splits."
        )
    key = "imgid" if entry.get("cocoid") is None else "cocoid"
    _require(entry, key, where)
    image_id = read_id(entry, key, where)
    if split in EVALUATION_SPLITS:
        return image_id, str(path), split
    return image_id, str(path), "train" if split in train_splits else None


def _read_captions(entry: dict[str, Any], where: str) -> list[tuple[str, Any]]:
    """Returns the caption ids and captions of one image."""
    sentences = _require(entry, "sentences", where)
    if not isinstance(sentences, list):
        raise ValueError(f"{where}: 'sentences' must be a list of captions. Got {sentences!r:.80} instead. Correct it.")
    captions = []
    for index, sentence in enumerate(sentences):
        place = f"{where}, sentences[{index}]"
        _require(sentence, "sentid", place)
        captions.append((read_id(sentence, "sentid", place), _require(sentence, "raw", place)))
    return captions


def _require(entry: Any, key: str, where: str) -> Any:
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: must be an object with the key '{key}'. Got {entry!r:.80} instead. Correct it.")
    if key not in entry:
        raise ValueError(f"{where}: the key '{key}' is missing. Got the keys {sorted(entry)} only. Add it.")
    return entry[key]


def _require_text(entry: Any, key: str, where: str) -> str:
    value = _require(entry, key, where)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{where}: '{key}' must be a non-blank string. Got {value!r} instead. Correct it.")
    return value
