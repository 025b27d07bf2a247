"""The images of a generated set in the catalog, opened by key; the node that generates them writes the shards."""

from kedro.io import DatasetError

from gmail_kedro.datasets.local_path import LocalPathDataset
from gmail_kedro.generated_sets.stored_images import ShardImages, open_images


class ImageShardsDataset(LocalPathDataset[ShardImages, ShardImages]):
    """Opens a folder of tar shards. It exists only when the set is complete, so no part is taken for the whole.

    Example (YAML)::

        generated_images:
          type: gmail_kedro.datasets.image_shards.ImageShardsDataset
          filepath: data/02_intermediate/mini_sd/shards

    Example (Python)::

        jpeg = ImageShardsDataset(filepath="data/02_intermediate/mini_sd/shards").load().read("train_0_0/0")
    """

    def save(self, data: ShardImages) -> None:
        """Writes nothing: the images lie in the folder already, whole shard by whole shard.

        Raises:
            DatasetError: If they lie in another folder.
        """
        if data.folder.absolute() != self._filepath.absolute():
            # Two catalog entries that drifted apart would otherwise train on another set than was made.
            raise DatasetError(f"The images lie in {data.folder}; this entry opens those in {self._filepath}.")

    def load(self) -> ShardImages:
        """Returns the images of the complete set, by key.

        Raises:
            DatasetError: If the set is not complete; says how many shards are missing and how to go on.
        """
        return open_images(self._filepath)

    def _exists(self) -> bool:
        try:
            open_images(self._filepath)
        except (FileNotFoundError, ValueError):
            return False
        return True
