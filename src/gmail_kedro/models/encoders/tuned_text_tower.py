"""A text tower that was tuned for retrieval, stored whole."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.fingerprints import finish_folder, open_folder, save_weights
from gmail_kedro.models.strict_loading import load_file_strictly

WEIGHTS_FILE, RECIPE_FILE = "text_tower.safetensors", "text_tower.json"
REMEDY = "Train it again: kedro run --pipeline=downstream"


@dataclass(frozen=True)
class TunedTextTower:
    """A tuned text tower, or none.

    Attributes:
        tower: The module, or None where nothing was tuned.
        encoder: Fingerprint of the encoder it belongs to.
    """

    tower: torch.nn.Module | None
    encoder: str

    def save_pretrained(self, folder: Path) -> None:
        """Writes the weights as safetensors, the recipe, and the checksums of both."""
        folder.mkdir(parents=True, exist_ok=True)
        if self.tower is not None:
            save_weights(folder / WEIGHTS_FILE, self.tower.state_dict())
        finish_folder(folder, RECIPE_FILE, {"encoder": self.encoder, "is_tuned": self.tower is not None})


def put_text_tower(encoder: TowerEncoder, folder: Path) -> bool:
    """Puts a stored text tower into the real route it was tuned for, in place, and says whether there was one.

    Raises:
        MissingWeightsError: If the folder holds none, or it does not fit.
        ValueError: If it belongs to another encoder, or is not what was stored.
    """
    recipe, stored = open_folder(folder, RECIPE_FILE, what="text tower", remedy=REMEDY)
    if not recipe["is_tuned"]:
        return False
    if recipe["encoder"] != encoder.fingerprint:
        raise ValueError(f"The text tower in {folder} was tuned for another encoder than {encoder.name!r}. {REMEDY}")
    assert encoder.text_tower is not None
    load_file_strictly(f"{encoder.name} (its text tower)", encoder.text_tower, folder / WEIGHTS_FILE)
    # Features of the teacher's own text tower must not be taken for these.
    encoder.fingerprint = hashlib.sha256(f"{encoder.fingerprint}{stored}".encode()).hexdigest()
    return True
