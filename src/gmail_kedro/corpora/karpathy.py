"""Reads captioned corpora in Karpathy's layout: COCO, Flickr8k, Flickr30k, the mini world, or one's own."""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from gmail_kedro.corpora.classification import read_classification
from gmail_kedro.corpora.folder import FolderImages
from gmail_kedro.corpora.json_files import read_json
from gmail_kedro.interfaces import Corpus

logger = logging.getLogger(__name__)

COLUMNS = ("caption_id", "image_id", "caption", "split", "filename")
EVALUATION_SPLITS = ("val", "test")
KNOWN_SPLITS = ("train", "restval", *EVALUATION_SPLITS)
TRAIN_SPLITS = ("train", "restval")


def read_karpathy(
    annotations: Path, images: Path, *, name: str, train_splits: Sequence[str] = TRAIN_SPLITS
) -> tuple[pd.DataFrame, FolderImages]:
    """Returns the captions and the pictures of a corpus.

    The file holds ``{"images": [{filename, imgid or cocoid, split, sentences: [{raw, sentid}, ...]}, ...]}``; a
    picture lies at ``images/filepath/filename``, or ``images/filename`` where there is no ``filepath``. White space
    inside a caption, line ends included, becomes single spaces. No picture is opened.

    Args:
        annotations: The JSON file.
        images: The folder of the pictures.
        name: What messages call the corpus.
        train_splits: Splits of the file that make up ``train``. Those of train and restval that are not named here
            are left out.

    Returns:
        The captions, one row each in file order: ``caption_id`` (the sentid), ``image_id`` (the cocoid, or else the
        imgid), ``caption``, ``split`` (train, val or test) and ``filename`` (below ``images``), all strings. And the
        pictures by ``image_id``.

    Raises:
        FileNotFoundError: If the file or the folder does not exist.
        ValueError: If ``train_splits`` names val or test, or the file is not of this layout: not JSON, no images, a
            missing key, no captions, a blank caption, a repeated id or file name, an unknown split. The message names
            the file and the entry.
    """
    annotations, images = Path(annotations), Path(images)
    train_splits = _check_train_splits(train_splits, name)
    entries = _read_entries(annotations, name)
    if not images.is_dir():
        raise FileNotFoundError(
            f"The images folder '{images.absolute()}' of the corpus {name!r} does not exist. "
            "Unpack the pictures there, or correct its path in conf/*/catalog*.yml."
        )
    rows, paths, seen = [], {}, _Seen()
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
        paths[image_id] = images / filename
        rows += [(caption_id, image_id, caption, split, filename) for caption_id, caption in captions]
    _refuse_nothing_left(rows, entries, train_splits, f"Corpus {name!r}, '{annotations}'")
    logger.info("Corpus %s: %d of %d pictures taken, %d captions", name, len(paths), len(entries), len(rows))
    return pd.DataFrame(rows, columns=list(COLUMNS)), FolderImages(paths)


def read_karpathy_corpus(
    annotations: Path,
    images: Path,
    *,
    name: str,
    classification: Path | None = None,
    train_splits: Sequence[str] = TRAIN_SPLITS,
) -> Corpus:
    """Returns a corpus in Karpathy's layout with, if there are any, its zero-shot classification tasks.

    Args:
        annotations: As in ``read_karpathy``.
        images: As in ``read_karpathy``.
        name: What reports and messages call the corpus.
        classification: A file as in ``read_classification``, its labels by this corpus' image ids; or None.
        train_splits: As in ``read_karpathy``.

    Raises:
        FileNotFoundError: If one of the files or the folder does not exist.
        ValueError: If one of the files is not of its layout, or a task labels no picture of the corpus.
    """
    captions, pictures = read_karpathy(annotations, images, name=name, train_splits=train_splits)
    tasks = {} if classification is None else read_classification(classification)
    for task_name, task in tasks.items():
        if not any(image_id in pictures.paths for image_id in task.labels):
            raise ValueError(
                f"Task {task_name!r} of '{classification}' must label pictures of the corpus {name!r} by image id, "
                f"such as {next(iter(pictures.paths))!r}. Got none, but ids such as {next(iter(task.labels))!r}. "
                "Use the cocoid, or else the imgid, of the annotations as a string."
            )
    return Corpus(name=name, captions=captions, images=pictures, labels=tasks)


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


def _check_train_splits(train_splits: Sequence[str], name: str) -> tuple[str, ...]:
    is_usable = not isinstance(train_splits, str) and len(train_splits) > 0
    if not is_usable or set(train_splits) & set(EVALUATION_SPLITS):
        raise ValueError(
            f"The train_splits of the corpus {name!r} must be a list of splits without {list(EVALUATION_SPLITS)}. "
            f"Got {train_splits!r} instead. The usual ones are {list(TRAIN_SPLITS)}."
        )
    return tuple(train_splits)


def _read_entries(annotations: Path, name: str) -> list[Any]:
    content = read_json(annotations, what=f"annotations file of the corpus {name!r}")
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        keys = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        raise ValueError(
            f"The annotations file '{annotations}' of the corpus {name!r} must be an object with a list 'images' "
            f"(Karpathy's layout). Got {keys} instead. COCO's own captions_*.json is another layout: use "
            "dataset_coco.json."
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
    image_id = _require_id(entry, "imgid" if entry.get("cocoid") is None else "cocoid", where)
    if split in EVALUATION_SPLITS:
        return image_id, str(path), split
    return image_id, str(path), "train" if split in train_splits else None


def _read_captions(entry: dict[str, Any], where: str) -> list[tuple[str, str]]:
    """Returns the caption ids and captions of one image."""
    sentences = _require(entry, "sentences", where)
    if not isinstance(sentences, list) or not sentences:
        raise ValueError(f"{where}: 'sentences' must be a list of captions. Got none. Add one or remove the image.")
    captions = []
    for index, sentence in enumerate(sentences):
        place = f"{where}, sentences[{index}]"
        caption_id = _require_id(sentence, "sentid", place)
        captions.append(
            (caption_id, _clean_caption(_require(sentence, "raw", place), f"{place} (sentid {caption_id})"))
        )
    return captions


def _clean_caption(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not any(letter.isprintable() and not letter.isspace() for letter in raw):
        raise ValueError(f"{where}: the caption must be text. Got {raw!r} instead. Write one or remove the sentence.")
    try:
        raw.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{where}: the caption holds half a character (a lone surrogate): {raw!r}. Mend it."
        ) from error
    return " ".join(raw.split())


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


def _require_id(entry: Any, key: str, where: str) -> str:
    value = _require(entry, key, where)
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise ValueError(f"{where}: '{key}' must be an integer or a string. Got {value!r} instead. Correct it.")
    return str(value)


def _refuse_nothing_left(rows: list[Any], entries: list[Any], train_splits: Sequence[str], where: str) -> None:
    if not rows:
        raise ValueError(
            f"{where}: none of the {len(entries)} images is in val, test or the train_splits {list(train_splits)}. "
            "Name the file's training split in train_splits."
        )
