"""What is trained in a LLaVA, projector and LoRA on its language model, and how it is stored and put back."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gmail_kedro.models.fingerprints import finish_folder, open_folder, save_weights
from gmail_kedro.models.strict_loading import load_file_strictly
from gmail_kedro.models.student.adapters import TuningSpec, load_tuned, save_tuned, trainable_parameters, tune_tower
from gmail_kedro.models.vision_language.vision_language_model import VisionLanguageModel
from gmail_kedro.models.vision_language.vision_towers import VisionTower
from gmail_kedro.models.weight_sources import MissingWeightsError

RECIPE_FILE, PROJECTOR_FILE = "vision_language.json", "projector.safetensors"
REMEDY = "Train it: kedro run --pipeline=vision_language"


@dataclass(frozen=True)
class LlavaRecipe:
    """What was trained, and what it belongs to; stored with it."""

    model: str  # its name
    base: str  # fingerprint of the model before training
    tuning: TuningSpec  # of the language model
    has_projector: bool  # whether the projector was trained
    towers: Mapping[str, str]  # hash of the tower of each route


class TunedLlava:
    """A LLaVA that is trained, in place, with its tower frozen; stored is what was trained.

    Args:
        model: Gets adapters in its language model, which are not merged.
        spec: LoRA on the language model, or ``none``.
        towers: The vision tower of each route, whose images it learns from.
        train_projector: Whether the projector learns.
        seed: Seeds the adapters.

    Raises:
        ValueError: If the adapter's targets are not in the language model.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        spec: TuningSpec,
        towers: Mapping[str, VisionTower],
        *,
        train_projector: bool,
        seed: int,
    ) -> None:
        self.model = model
        hashes = {route: tower.fingerprint for route, tower in towers.items()}
        self.recipe = LlavaRecipe(model.name, model.fingerprint, spec, train_projector, hashes)
        model.model.model.language_model = tune_tower(
            self._language_model, spec, owner=model.name, seed=seed, setting="vision_language.lora.targets"
        )
        if train_projector:
            # In float32 whatever the model is in: bfloat16 would round small updates away.
            model.projector.float().requires_grad_(True)

    def groups(self, *, learning_rate: float, projector_learning_rate: float) -> list[dict[str, Any]]:
        """Returns what is trained, as the optimizer's groups: adapters, then projector."""
        adapters = trainable_parameters(self._language_model)
        projector = trainable_parameters(self.model.projector)
        groups = [{"params": adapters, "lr": learning_rate}, {"params": projector, "lr": projector_learning_rate}]
        return [group for group in groups if group["params"]]

    def checkpoint_activations(self) -> None:
        """Trades time for memory: activations of the language model are computed again in the backward pass."""
        self._language_model.gradient_checkpointing_enable({"use_reentrant": False})

    def save_pretrained(self, folder: Path) -> None:
        """Writes PEFT's two files, the projector, the recipe, and the checksums of all."""
        save_tuned(self._language_model, self.recipe.tuning, folder)
        if self.recipe.has_projector:
            save_weights(folder / PROJECTOR_FILE, self.model.projector.state_dict())
        finish_folder(folder, RECIPE_FILE, asdict(self.recipe))

    @property
    def _language_model(self) -> Any:
        return self.model.model.model.language_model


def load_tuned_llava(model: VisionLanguageModel, folder: Path, tower: VisionTower) -> None:
    """Puts stored training into a LLaVA, in place, adapters merged.

    Args:
        model: As it was before the training.
        folder: As ``TunedLlava`` writes it.
        tower: What encodes the images it is going to be asked about; must be one of the recipe's.

    Raises:
        MissingWeightsError: If the folder's files are not complete, or do not fit the model.
        ValueError: If the training belongs to another model, or the tower is not the recipe's.
    """
    recipe = _read_recipe(folder)
    if recipe.base != model.fingerprint:
        raise ValueError(
            f"The training in {folder} belongs to {recipe.model!r} with the hash {recipe.base[:12]} (weights, "
            f"configuration, chat and tokenizer). Got {model.name!r} with {model.fingerprint[:12]}. {REMEDY}, or "
            "restore vision_language.model, what is read of its tower, and run.seed."
        )
    trained = str(recipe.towers.get(tower.route))
    if trained != tower.fingerprint:
        raise ValueError(
            f"The training in {folder} was done beside a tower of {tower.route} images with the hash {trained[:12]}. "
            f"Got one with {tower.fingerprint[:12]}: the student was aligned again. {REMEDY}"
        )
    language_model = model.model.model.language_model
    model.model.model.language_model = load_tuned(language_model, recipe.tuning, folder, owner=model.name)
    if recipe.has_projector:
        if not (folder / PROJECTOR_FILE).is_file():
            raise MissingWeightsError(f"There is no {PROJECTOR_FILE} in {folder}. {REMEDY}")
        load_file_strictly(f"{model.name} (its projector)", model.projector.float(), folder / PROJECTOR_FILE)
    model.eval()


def _read_recipe(folder: Path) -> LlavaRecipe:
    facts, _ = open_folder(folder, RECIPE_FILE, what="tuned vision-language model", remedy=REMEDY)
    return LlavaRecipe(tuning=TuningSpec.from_json(facts.pop("tuning")), **facts)
