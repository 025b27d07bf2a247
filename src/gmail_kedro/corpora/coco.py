"""Reads COCO's own captions files: ``captions_train2014.json``, ``captions_val2017.json`` and the like."""

from pathlib import Path
from typing import Any

import pandas as pd

from gmail_kedro.corpora.columns import Reading
from gmail_kedro.corpora.folder import FolderImages
from gmail_kedro.corpora.json_files import read_json
from gmail_kedro.corpora.skipping import Skipped
from gmail_kedro.corpora.texts import clean_caption
from gmail_kedro.corpora.tree import require_file, require_folder

NUMBERS = ("images", "annotations")


def read_coco(annotations: Path, images: Path, *, name: str, home: str = "") -> Reading:
    """Returns the captions of a COCO captions file, picture by picture, those of a picture in file order.

    The file holds ``{"images": [{id, file_name}, ...], "annotations": [{id, image_id, caption}, ...]}``; a picture
    lies at ``images/file_name``. The captions of a picture need not stand together.

    Args:
        annotations: The JSON file.
        images: The folder of the pictures.
        name: What messages call the corpus.
        home: Where the files come from, for messages.

    Raises:
        FileNotFoundError: If the file or the folder does not exist.
        ValueError: If the file is not of this layout, repeats an id, or captions a picture it does not list.
    """
    annotations = require_file(annotations, name=name, home=home)
    images = require_folder(images, name=name, home=home)
    content = _read_lists(annotations, name)
    where = f"Corpus {name!r}, '{annotations}'"
    files = _read_files(content["images"], where)
    rows, seen = [], set()
    for index, entry in enumerate(content["annotations"]):
        place = f"{where}, annotations[{index}]"
        caption_id, image_id = _id_of(entry, "id", place), _id_of(entry, "image_id", place)
        if image_id not in files:
            raise ValueError(f"{place}: the image_id {image_id} is none of the {len(files)} images. Correct the file.")
        if caption_id in seen:
            raise ValueError(f"{place}: the id {caption_id} must be used once only. Another annotation has it too.")
        seen.add(caption_id)
        rows.append((str(caption_id), image_id, clean_caption(entry.get("caption"), f"{place} (id {caption_id})")))
    captions = pd.DataFrame(rows, columns=["caption_id", "image_id", "caption"])
    order = {image_id: position for position, image_id in enumerate(files)}
    captions = captions.sort_values("image_id", key=lambda ids: ids.map(order), kind="stable", ignore_index=True)
    captions["filename"] = captions["image_id"].map(files)
    captions["image_id"] = captions["image_id"].astype("str")
    skipped = Skipped()
    captioned = set(captions["image_id"])
    for image_id, filename in files.items():
        if str(image_id) not in captioned:
            skipped.add("picture without a caption", filename)
    paths = {str(image_id): images / filename for image_id, filename in files.items()}
    return Reading(captions, FolderImages(paths), skipped)


def _read_lists(annotations: Path, name: str) -> dict[str, list[Any]]:
    content = read_json(annotations, what=f"annotations file of the corpus {name!r}")
    lists = content if isinstance(content, dict) else {}
    absent = [key for key in NUMBERS if not isinstance(lists.get(key), list) or not lists[key]]
    if absent:
        found = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        hint = " It looks like Karpathy's layout: set layout: karpathy." if "images" not in absent else ""
        raise ValueError(
            f"The annotations file '{annotations}' of the corpus {name!r} must be an object with the lists "
            f"{list(NUMBERS)}, not empty (COCO's captions_*.json). Missing: {absent}; got {found}.{hint}"
        )
    return lists


def _read_files(entries: list[Any], where: str) -> dict[int, str]:
    """Returns the file names of the images by id, in file order."""
    files: dict[int, str] = {}
    for index, entry in enumerate(entries):
        place = f"{where}, images[{index}]"
        image_id = _id_of(entry, "id", place)
        filename = entry.get("file_name")
        if not isinstance(filename, str) or not filename.strip() or Path(filename).is_absolute() or ".." in filename:
            raise ValueError(f"{place}: 'file_name' must be a name below the images folder. Got {filename!r} instead.")
        if image_id in files:
            raise ValueError(f"{place} ({filename!r}): the id {image_id} must be used once only. Correct the file.")
        files[image_id] = filename
    return files


def _id_of(entry: Any, key: str, place: str) -> int:
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{place}: '{key}' must be an integer. Got {value!r} instead. Correct the file.")
    return value
