"""Reads captioned corpora in Karpathy's layout: COCO, Flickr8k, Flickr30k, the mini world, or one's own."""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from gmail_kedro.corpora.caption_table import CaptionBlocks, CaptionTable
from gmail_kedro.corpora.corpus_protocols import TRAIN_SPLITS, check_train_splits
from gmail_kedro.corpora.find_files import is_there, require_file, require_folder
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.corpora.text_files import read_id, read_json
from gmail_kedro.images.image_files import ImageFiles
from gmail_kedro.interfaces import EVALUATION_SPLITS

logger = logging.getLogger(__name__)

COLUMNS = ("caption_id", "image_id", "caption", "split", "filename")


def read_karpathy(
    annotations: Path,
    images: Path,
    *,
    name: str,
    home: str = "",
    train_splits: Sequence[str] = TRAIN_SPLITS,
    skip_missing: bool = False,
) -> CaptionTable:
    """Returns the captions and the images of a corpus, in file order; no image is opened.

    The file holds ``{"images": [{filename, imgid or cocoid, split, sentences: [{raw, sentid}, ...]}, ...]}``; an
    image lies at ``images/filepath/filename``, or ``images/filename`` where there is no ``filepath``. A caption is
    called by its sentid, an image by its cocoid, or else its imgid.

    The arguments are those of ``read_table``, and ``train_splits``: the splits of the file that make up ``train``.
    Those of train and restval that are not named are left out.

    Raises:
        ValueError: If ``train_splits`` names val or test, or the file is not of this layout: not JSON, no images, a
            missing key, a repeated id or file name, an unknown split. The message names the file and the entry.
    """
    train_splits = check_train_splits(train_splits)
    annotations = require_file(annotations, name=name, home=home)
    entries = _read_entries(annotations, name)
    folder = require_folder(images, name=name, home=home)
    rows: list[tuple[str, str, Any, str, str]] = []
    files: dict[str, str] = {}
    seen: dict[tuple[str, str], str] = {}  # where each id was first
    skipped = Skipped()
    in_splits = 0
    for index, entry in enumerate(entries):
        where = f"Corpus {name!r}, '{annotations}', images[{index}]"
        image_id, filename, split = _read_image(entry, train_splits, where)
        where = f"{where} ({filename!r})"
        captions = _read_captions(entry, where)
        # Also of entries that are left out: they may be in the split of another run.
        for kind, value in (("image id", image_id), ("filename", filename), *(("sentid", row[0]) for row in captions)):
            _refuse_second_use(seen, kind, value, where)
        if split is None:
            continue
        in_splits += 1
        if not captions:
            skipped.add("image without a caption", filename)
        elif is_there(folder / filename, filename, skipped, skip_missing=skip_missing):
            files[image_id] = filename
            rows += [(caption_id, image_id, caption, split, filename) for caption_id, caption in captions]
    if not in_splits:
        raise ValueError(
            f"Corpus {name!r}, '{annotations}': none of the {len(entries)} images is in val, test or the train_splits "
            f"{list(train_splits)}. Name the file's training split in train_splits."
        )
    blocks = CaptionBlocks(COLUMNS, skipped)
    blocks.add_rows(rows)
    logger.info("Corpus %s: %d of %d images taken, %d captions", name, len(files), len(entries), len(rows))
    return CaptionTable(blocks.frame(), ImageFiles(folder, files), skipped)


def _refuse_second_use(seen: dict[tuple[str, str], str], kind: str, value: str, where: str) -> None:
    if (first := seen.get((kind, value))) is not None:
        by = "the same entry" if first == where else first
        raise ValueError(f"{where}: the {kind} {value!r} must be used once only. {by} uses it too. Change one.")
    seen[kind, value] = where


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
        raise ValueError(f"{where}: the image must lie below the images folder. Got '{path}' instead. Correct it.")
    where = f"{where} ({str(path)!r})"
    split = _require_text(entry, "split", where)
    known = dict.fromkeys((*TRAIN_SPLITS, *EVALUATION_SPLITS, *train_splits))
    if split not in known:
        raise ValueError(
            f"{where}: the split must be one of {list(known)}. Got {split!r} instead. Correct it, or name it in "
            "train_splits."
        )
    # The cocoid first: it is the number that COCO's own files, and so other corpora, know the image by.
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
