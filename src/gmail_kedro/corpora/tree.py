"""Pictures below one folder, called by their path in it: nothing is kept in memory, however many there are."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from gmail_kedro.corpora.stamps import file_stamp


@dataclass(frozen=True)
class TreeImages:
    """Encoded pictures, one file each; the key of a picture is its path below the folder (an ``ImageSource``).

    Attributes:
        folder: Where they lie.
        modality: ``real``: photographs may not go through a student's route of generated images.
    """

    modality: ClassVar[str] = "real"
    folder: Path

    def path(self, key: str) -> Path:
        """Returns the file of a picture, which need not exist.

        Raises:
            FileNotFoundError: If the key leads out of the folder.
        """
        relative = PurePosixPath(key)
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise FileNotFoundError(
                f"The picture {key!r} is not below the folder '{self.folder}'. Ask for one by its path in it."
            )
        return self.folder / relative

    def read(self, key: str) -> bytes:
        """Returns the encoded picture.

        Args:
            key: Its path below the folder.

        Raises:
            FileNotFoundError: If there is no such file; the message names it.
        """
        return self._find(key).read_bytes()

    def stamp(self, key: str) -> str:
        """Returns what changes when the file does, without reading it: its size and time of change.

        Args:
            key: Its path below the folder.

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

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Returns the keys, each once and in order, that have no file; opens nothing.

        Args:
            keys: The pictures to look for.
        """
        return list(dict.fromkeys(key for key in keys if not self.path(key).is_file()))

    def _find(self, key: str) -> Path:
        path = self.path(key)
        if not path.is_file():
            raise FileNotFoundError(
                f"The picture {key!r} should be the file '{path.absolute()}', which does not exist. "
                "Put it there, or correct the images folder in conf/*/catalog*.yml."
            )
        return path


def require_folder(folder: Path, *, name: str, home: str) -> Path:
    """Returns the folder of a corpus's pictures.

    Args:
        folder: Where it should be.
        name: What the message calls the corpus.
        home: Where its files come from.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"The images folder '{folder.absolute()}' of the corpus {name!r} does not exist. "
            f"Unpack the pictures there, or correct its path in conf/*/catalog*.yml.{_from(home)}"
        )
    return folder


def require_file(path: Path, *, name: str, home: str) -> Path:
    """Returns the annotations file of a corpus.

    Args:
        path: Where it should be.
        name: What the message calls the corpus.
        home: Where its files come from.

    Raises:
        FileNotFoundError: If it does not exist.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"The annotations file of the corpus {name!r} '{path.absolute()}' does not exist. "
            f"Put it there, or correct its path in conf/*/catalog*.yml.{_from(home)}"
        )
    return path


def _from(home: str) -> str:
    return f" It comes from: {home}." if home else ""
