"""One fine-tuning run: which pictures a step sees, its loss, and the moving average that is measured."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.batches import batch_rows, split_rows
from gmail_kedro.engine.checkpoint import Checkpoints
from gmail_kedro.engine.grad_cache import Losses, Views, accumulate_gradients
from gmail_kedro.engine.inference import hash_items
from gmail_kedro.engine.loop import TrainingPlan, train
from gmail_kedro.interfaces import LabelledImages
from gmail_kedro.models.encoders.classifier import build_classifier, build_mixup, layer_groups, training_transform
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.params.fine_tuning import FineTuningParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.classification.pictures import Pictures, Place, load_batches, seeded

PICTURES_OF_BASE_RATE = 256
NO_CLIPPING = math.inf  # the recipe does not clip
# What does not matter to what comes of a run.
NO_MATTER = ("fine_tuning.sets", "fine_tuning.loader_workers", "fine_tuning.checkpoint_every")


class FineTuningStep:
    """The step function of a fine-tuning run: a step's index to its losses; steps must come in order.

    Args:
        model: The classifier, trained in place.
        pictures: What it is trained on.
        params: Batch size, mixup and the like.
        steps: Steps of the whole run.
        seed: Seeds the order of the pictures and what is random about a step.
        class_count: Number of classes.
    """

    def __init__(
        self, model: Any, pictures: Pictures, params: FineTuningParams, *, steps: int, seed: int, class_count: int
    ) -> None:
        from timm.loss import SoftTargetCrossEntropy
        from timm.utils import ModelEmaV3

        self.average = ModelEmaV3(model, decay=params.ema_decay)
        self._model, self._pictures, self._params = model, pictures, params
        self._steps, self._seed = steps, seed
        self._mix, self._criterion = build_mixup(class_count, params), SoftTargetCrossEntropy()
        self._device = next(model.parameters()).device
        self._batches: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None

    def __call__(self, index: int) -> Losses:
        """Returns the losses of a step, their gradient accumulated part by part."""
        if self._batches is None:
            self._batches = load_batches(self._pictures, self._parts(index), workers=self._params.loader_workers)
        if index > 0:  # the step before has ended only now
            self.average.update(self._model)
        with seeded(self._seed, index, device=self._device):
            return accumulate_gradients(
                self._embed, self._losses, self._rows(index), size=self._params.micro_batch_size
            )

    def _rows(self, index: int) -> np.ndarray:
        rows = batch_rows(index, count=len(self._pictures), batch_size=self._params.batch_size, seed=self._seed)
        return rows[: len(rows) // 2 * 2]  # mixup joins pictures in pairs

    def _parts(self, first: int) -> Iterator[Sequence[Place]]:
        for index in range(first, self._steps):
            for part in split_rows(self._rows(index), self._params.micro_batch_size):
                yield [(index, int(row)) for row in part]

    def _embed(self, rows: np.ndarray) -> Views:
        assert self._batches is not None
        images, labels = next(self._batches)
        mixed, targets = self._mix(images.to(self._device), labels.to(self._device))
        return {"logits": self._model(mixed), "targets": targets}

    def _losses(self, views: Views, first: int) -> Losses:
        return {"loss": self._criterion(views["logits"], views["targets"])}


def fine_tune_on(
    found: LabelledImages, encoder: TowerEncoder, checkpoints: Checkpoints, params: FineTuningParams, run: RunParams
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """Fine-tunes an encoder's tower on all training pictures of a set.

    Args:
        found: The set; its ``val`` is trained on too.
        encoder: The real route; changed in place.
        checkpoints: Where training state is kept.
        params: The recipe.
        run: Seed and precision.

    Returns:
        The moving average of the weights, and the history, one row a step.

    Raises:
        ValueError: If the encoder cannot be fine-tuned, or there are fewer than two training pictures.
        FloatingPointError: If too many steps had a loss that was not finite; the last checkpoint is kept.
    """
    splits = found.training()
    labels = {**splits.labels["train"], **splits.labels["val"]}
    if len(labels) < 2:
        raise ValueError(f"The set {found.name!r} must have two training pictures or more. Got {len(labels)} instead.")
    facts = {name: repr(value) for name, value in params.flat().items() if name not in NO_MATTER} | {
        "run.seed": str(run.seed),
        "run.precision": run.precision,
        "encoder": encoder.fingerprint,
        "pictures": hash_items(list(labels), lambda key: str(labels[key]).encode()),
    }
    class_count = len(found.task.classes)
    model = build_classifier(encoder, class_count, drop_path=params.drop_path, seed=run.seed).train()
    pictures = Pictures(splits.images, labels, training_transform(encoder, params), seed=run.seed)
    plan = plan_fine_tuning(found.name, len(labels), params)
    step = FineTuningStep(model, pictures, params, steps=plan.steps, seed=run.seed, class_count=class_count)
    checkpoint = checkpoints.open(
        f"fine_tuning_{found.name}",
        facts,
        every=params.checkpoint_every,
        buffers={f"average.{name}": value for name, value in step.average.module.state_dict().items()},
    )
    groups = layer_groups(model, params, learning_rate=plan.learning_rate)
    device = next(model.parameters()).device
    history = train(step, groups, plan, checkpoint, device=device, precision=run.precision)
    step.average.update(model)
    return step.average.module.state_dict(), pd.DataFrame(history.rows)


def plan_fine_tuning(name: str, picture_count: int, params: FineTuningParams) -> TrainingPlan:
    """Returns how long and how fast a classifier is trained on so many pictures.

    Args:
        name: The set, for the progress bar.
        picture_count: Number of training pictures.
        params: Epochs, batch size and rates.
    """
    batch_size = min(params.batch_size, picture_count)
    per_epoch = picture_count // batch_size
    learning_rate = params.base_learning_rate * params.batch_size / PICTURES_OF_BASE_RATE
    return TrainingPlan(
        title=f"Fine-tuning on {name}",
        steps=params.epochs * per_epoch,
        learning_rate=learning_rate,
        weight_decay=params.weight_decay,
        clip_norm=NO_CLIPPING,
        schedule="cosine",
        warmup_steps=params.warmup_epochs * per_epoch,
        floor=min(1.0, params.min_learning_rate / learning_rate),
    )
