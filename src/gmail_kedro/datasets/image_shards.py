"""The images of a generated set in the catalog, opened by key; the node that generates them writes the shards."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from gmail_kedro.generated_sets.shard_images import UNFINISHED_FILE, ShardImages, missing_shards, read_description
from gmail_kedro.generated_sets.shards import remake


class ImageShardsDataset(AbstractDataset[ShardImages, ShardImages]):
    """Opens a folder of tar shards. It exists only when the set is complete, so no part is taken for the whole.

    Example (YAML)::

        generated_images:
          type: gmail_kedro.datasets.image_shards.ImageShardsDataset
          filepath: data/02_intermediate/mini_sd/shards

    Example (Python)::

        jpeg = ImageShardsDataset(filepath="data/02_intermediate/mini_sd/shards").load().read("train_0_0/0")

    Args:
        filepath: The folder.
        metadata: Ignored; for other tools.
    """

    def __init__(self, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    def save(self, data: ShardImages) -> None:
        """Writes nothing: the images lie in the folder already, whole shard by whole shard.

        Raises:
            DatasetError: If they lie in another folder.
        """
        if data.folder.absolute() != Path(self._filepath).absolute():
            # Two catalog entries that drifted apart would otherwise train on another set than was made.
            raise DatasetError(f"The images lie in {data.folder}; this entry opens those in {self._filepath}.")

    def load(self) -> ShardImages:
        """Returns the images of the complete set, by key.

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
        return ShardImages(folder, description)

    def _exists(self) -> bool:
        folder = Path(self._filepath)
        try:
            description = read_description(folder)
        except ValueError:
            return False
        return description is not None and not missing_shards(folder, description)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}
