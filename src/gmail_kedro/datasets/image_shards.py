"""A generated set in the catalog: saving makes the pictures, loading reads them by key."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.generated_sets.advice import remake
from gmail_kedro.generated_sets.generate import generate_shards
from gmail_kedro.generated_sets.generation_work import GenerationWork
from gmail_kedro.generated_sets.stored import UNFINISHED_FILE, StoredImages, missing_shards, read_description


class ImageShardsDataset(AbstractDataset[GenerationWork, StoredImages]):
    """Generates into a folder of tar shards when saved, and can be killed and saved again at any moment.

    It exists only when the set is complete, so ``--only-missing-outputs`` never takes a part for the whole.

    Example (YAML)::

        generated_images:
          type: gmail_kedro.datasets.image_shards.ImageShardsDataset
          filepath: data/02_intermediate/mini_sd/shards

    Example (Python)::

        dataset = ImageShardsDataset(filepath="data/02_intermediate/mini_sd/shards")
        dataset.save(work)
        jpeg = dataset.load().read("train_0_0/0")

    Args:
        filepath: The folder.
        metadata: Ignored; for other tools.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def save(self, data: GenerationWork) -> None:
        """Makes the pictures that are missing; see ``generate_shards``.

        Raises:
            DatasetError: If the generator fails or too many pictures are refused; what was finished is kept.
        """
        generate_shards(data, Path(self._filepath))

    def load(self) -> StoredImages:
        """Returns the pictures of the complete set, by key.

        Raises:
            DatasetError: If the set is not complete; says how many shards are missing and how to go on.
        """
        folder = Path(self._filepath)
        resume = remake(folder.absolute().parent)
        description = read_description(folder)
        wanted = description or read_description(folder, UNFINISHED_FILE)
        if wanted is None:
            raise DatasetError(f"There is no generated set in {folder}. Make it with: {resume}")
        missing = missing_shards(folder, wanted)
        if missing:
            raise DatasetError(
                f"The generated set in {folder} is incomplete: {len(missing)} of {len(wanted.shards)} shards missing "
                f"or cut short (first: {missing[0]}.tar). Resume with: {resume}"
            )
        if description is None:
            raise DatasetError(
                f"The generated set in {folder} has all {len(wanted.shards)} shards but was not closed. "
                f"Close it with: {resume}"
            )
        return StoredImages(folder, description)

    def _exists(self) -> bool:
        folder = Path(self._filepath)
        try:
            description = read_description(folder)
        except ValueError:
            return False
        return description is not None and not missing_shards(folder, description)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
