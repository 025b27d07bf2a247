"""Reads COCO's own captions files: ``captions_train2014.json``, ``captions_val2017.json`` and the like."""

from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

from gmail_kedro.corpora.caption_table import CaptionBlocks, CaptionTable
from gmail_kedro.corpora.find_files import is_there, require_file, require_folder
from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.corpora.text_files import read_id, read_json
from gmail_kedro.images.image_files import ImageFiles

LISTS = ("images", "annotations")


def read_coco(
    annotations: Path, images: Path, *, name: str, home: str = "", skip_missing: bool = False
) -> CaptionTable:
    """Returns the captions of a COCO captions file, image by image, those of an image in file order.

    The file holds ``{"images": [{id, file_name}, ...], "annotations": [{id, image_id, caption}, ...]}``; an image
    lies at ``images/file_name``. The arguments are those of ``read_table``.

    Raises:
        ValueError: If the file is not of this layout, repeats an id or a file, or captions an image it does not list.
    """
    annotations = require_file(annotations, name=name, home=home)
    folder = require_folder(images, name=name, home=home)
    content = _read_lists(annotations, name)
    where = f"Corpus {name!r}, '{annotations}'"
    files = _read_files(content["images"], where)
    # By image, since COCO's file has the captions in no order; "the first five of an image" needs one.
    rows: dict[str, list[tuple[str, str, Any, str]]] = {image_id: [] for image_id in files}
    seen = set()
    for index, entry in enumerate(content["annotations"]):
        place = f"{where}, annotations[{index}]"
        caption_id, image_id = read_id(entry, "id", place), read_id(entry, "image_id", place)
        if image_id not in files:
            raise ValueError(f"{place}: the image_id {image_id} is none of the {len(files)} images. Correct the file.")
        if caption_id in seen:
            raise ValueError(f"{place}: the id {caption_id} must be used once only. Another annotation has it too.")
        seen.add(caption_id)
        rows[image_id].append((caption_id, image_id, entry.get("caption"), files[image_id]))
    skipped = Skipped()
    taken = []
    for image_id, filename in files.items():
        if not rows[image_id]:
            skipped.add("image without a caption", filename)
        elif is_there(folder / filename, filename, skipped, skip_missing=skip_missing):
            taken += rows[image_id]
    blocks = CaptionBlocks(("caption_id", "image_id", "caption", "filename"), skipped)
    blocks.add_rows(taken)
    return CaptionTable(blocks.frame(), ImageFiles(folder, files), skipped)


def _read_lists(annotations: Path, name: str) -> dict[str, list[Any]]:
    content = read_json(annotations, what=f"annotations file of the corpus {name!r}")
    lists = content if isinstance(content, dict) else {}
    absent = [key for key in LISTS if not isinstance(lists.get(key), list) or not lists[key]]
    if absent:
        found = sorted(content)[:5] if isinstance(content, dict) else type(content).__name__
        hint = " It looks like Karpathy's layout: set layout: karpathy." if "images" not in absent else ""
        raise ValueError(
            f"The annotations file '{annotations}' of the corpus {name!r} must be an object with the lists "
            f"{list(LISTS)}, not empty (COCO's captions_*.json). Missing: {absent}; got {found}.{hint}"
        )
    return lists


def _read_files(entries: list[Any], where: str) -> dict[str, str]:
    """Returns the file names of the images by id, in file order."""
    files: dict[str, str] = {}
    for index, entry in enumerate(entries):
        place = f"{where}, images[{index}]"
        image_id = read_id(entry, "id", place)
        filename = entry.get("file_name")
        path = PurePosixPath(filename) if isinstance(filename, str) else PurePosixPath()
        if not path.parts or not path.name.strip() or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{place}: 'file_name' must be a name below the images folder. Got {filename!r} instead.")
        if image_id in files:
            raise ValueError(f"{place} ({filename!r}): the id {image_id} must be used once only. Correct the file.")
        files[image_id] = str(path)
    repeated = [filename for filename, count in Counter(files.values()).items() if count > 1]
    if repeated:
        ids = [image_id for image_id, filename in files.items() if filename == repeated[0]]
        raise ValueError(
            f"{where}: {len(repeated)} file names are used by more than one image id, such as {repeated[0]!r} by "
            f"{ids[:3]}. One image could be trained on and measured on. Give its captions one image id."
        )
    return files
