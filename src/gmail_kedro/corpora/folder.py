"""Pictures that lie as files on disk."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from gmail_kedro.corpora.stamps import file_stamp


@dataclass(frozen=True)
class FolderImages:
    """Encoded pictures, one file each, read when asked for (an ``ImageSource``).

    Attributes:
        modality: ``real``: photographs may not go through a student's route of generated images.
        paths: The file of each picture, by key.
    """

    modality: ClassVar[str] = "real"
    paths: Mapping[str, Path] = field(repr=False)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, key: str) -> bytes:
        """Returns the encoded picture.

        Args:
            key: A key of ``paths``.

        Raises:
            FileNotFoundError: If the key is unknown or its file does not exist; the message names both.
        """
        return self._find(key).read_bytes()

    def stamp(self, key: str) -> str:
        """Returns what changes when the file does, without reading it: its size and time of change.

        Args:
            key: A key of ``paths``.

        Raises:
            FileNotFoundError: As ``read``.
        """
        return file_stamp(self._find(key))

    def size(self, key: str) -> int:
        """Returns the bytes of a picture, without reading it.

        Raises:
            FileNotFoundError: As ``read``.
        """
        return self._find(key).stat().st_size

    def path(self, key: str) -> Path:
        """Returns the file of a picture, which need not exist.

        Raises:
            FileNotFoundError: If the key is unknown.
        """
        if key not in self.paths:
            known = ", ".join(repr(known) for known in list(self.paths)[:3])
            raise FileNotFoundError(
                f"There is no picture {key!r} among {len(self.paths)} (such as {known}). Ask for one of them by its id."
            )
        return self.paths[key]

    def _find(self, key: str) -> Path:
        path = self.path(key)
        if not path.is_file():
            raise FileNotFoundError(
                f"The picture {key!r} should be the file '{path.absolute()}', which does not exist. "
                "Put it there, or correct the images folder in conf/*/catalog*.yml."
            )
        return path

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Returns the keys, each once and in order, that have no file; opens nothing.

        Args:
            keys: The pictures to look for.
        """
        return [key for key in dict.fromkeys(keys) if key not in self.paths or not self.paths[key].is_file()]
