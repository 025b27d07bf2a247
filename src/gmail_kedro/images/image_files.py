"""Image files below one folder, as a source of encoded images.

No image is opened before it is asked for, and none is kept in memory.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar


def file_stamp(path: Path) -> str:
    """Returns what changes when a file does: its size in bytes and its time of change in nanoseconds."""
    facts = path.stat()
    return f"{facts.st_size} {facts.st_mtime_ns}"


@dataclass(frozen=True)
class ImageFiles:
    """Real images, one file each, below one folder (an ``ImageSource``)."""

    modality: ClassVar[str] = "real"  # an encoder on the student's route of generated images refuses them
    folder: Path
    filenames: Mapping[str, str] | None = field(default=None, repr=False)  # by id; None where the path is the id

    def path(self, key: str) -> Path:
        """Returns the file of an image, which need not exist.

        Raises:
            FileNotFoundError: If the key is unknown, or leads out of the folder.
        """
        filename = key if self.filenames is None else self.filenames.get(key)
        if filename is None:
            known = ", ".join(repr(known) for known in list(self.filenames or ())[:3])
            raise FileNotFoundError(
                f"There is no image {key!r} among {len(self.filenames or ())} (such as {known}). Ask for one of them "
                "by its id."
            )
        relative = PurePosixPath(filename)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise FileNotFoundError(
                f"The image {key!r} is not below the folder '{self.folder}'. Ask for one by its path in it."
            )
        return self.folder / relative

    def read(self, key: str) -> bytes:
        """Returns the encoded image.

        Raises:
            FileNotFoundError: If the key is unknown or its file does not exist; the message names both.
        """
        return self._find(key).read_bytes()

    def stamp(self, key: str) -> str:
        """Returns what changes when the file does, without reading it."""
        return file_stamp(self._find(key))

    def size(self, key: str) -> int:
        """Returns the bytes of an image, without reading it."""
        return self._find(key).stat().st_size

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Returns the keys, each once and in order, that are unknown or have no file; opens nothing."""
        return [key for key in dict.fromkeys(keys) if not self._has(key)]

    def _has(self, key: str) -> bool:
        try:
            return self.path(key).is_file()
        except FileNotFoundError:
            return False

    def _find(self, key: str) -> Path:
        path = self.path(key)
        if not path.is_file():
            raise FileNotFoundError(
                f"The image {key!r} should be the file '{path.absolute()}', which does not exist. "
                "Put it there, or correct the images folder in conf/*/catalog*.yml."
            )
        return path
