"""The photographs of a mini world as its readers get them: each is the one that was written, or refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from gmail_kedro.whole_files import KnownFolder


class FileImages(Protocol):
    """Pictures of which each is one file."""

    def path(self, key: str) -> Path:
        """Returns the file of a picture."""
        ...

    def stamp(self, key: str) -> str:
        """Returns what changes when the file does."""
        ...

    def size(self, key: str) -> int:
        """Returns the bytes of a picture."""
        ...


@dataclass(frozen=True)
class WorldImages:
    """A corpus's pictures, each held against its checksum when it is read (an ``ImageSource``).

    Attributes:
        modality: ``real``: photographs may not go through a student's route of generated images.
        images: The pictures as the corpus's reader found them.
        files: The files of the world they are of.
    """

    modality: ClassVar[str] = "real"
    images: FileImages
    files: KnownFolder

    def read(self, key: str) -> bytes:
        """Returns the encoded picture.

        Raises:
            FileNotFoundError: If the key is unknown or its file does not exist.
            ChangedFileError: If it is not what was written.
        """
        return self.files.read(self.images.path(key))

    def stamp(self, key: str) -> str:
        """Returns what changes when the file does, without reading it.

        Raises:
            FileNotFoundError: As ``read``.
        """
        return self.images.stamp(key)

    def size(self, key: str) -> int:
        """Returns the bytes of a picture, without reading it.

        Raises:
            FileNotFoundError: As ``read``.
        """
        return self.images.size(key)
