"""Fine-tuning a tower on a classification set, by SynCLR's recipe: the images of a step, its loss, the predictions.

What is random about an image (cut, flip, erasing) depends on the seed, the step and the row alone, so neither the
number of loader processes nor a kill in the middle changes a training. The moving average of the weights is what is
measured.
"""

import contextlib
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from gmail_kedro.engine.batches import batch_rows, split_rows
from gmail_kedro.engine.checkpoint import Checkpoints, settings_of
from gmail_kedro.engine.grad_cache import Losses, Views, accumulate_gradients
from gmail_kedro.engine.inference import hash_items
from gmail_kedro.engine.loop import train
from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageSource, LabelledImages
from gmail_kedro.models.encoders.classifier import (
    build_classifier,
    build_mixup,
    layer_groups,
    measuring_transform,
    training_transform,
)
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.params.base import TrainingParams
from gmail_kedro.params.fine_tuning import FineTuningParams
from gmail_kedro.params.run import RunParams

IMAGES_OF_BASE_RATE = 256  # a step that base_learning_rate is for; larger batches scale it up
NO_CLIPPING = sys.float_info.max  # the recipe does not clip
# What does not matter to what comes of a run.
NO_MATTER = ("fine_tuning.sets", "fine_tuning.loader_workers", "fine_tuning.checkpoint_every")

Place = tuple[int, int]  # the step, and the row of an image


def fine_tune_on(
    found: LabelledImages, encoder: TowerEncoder, checkpoints: Checkpoints, params: FineTuningParams, run: RunParams
) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    """Fine-tunes an encoder's tower on all training images of a set.

    Args:
        found: The set; its ``val`` is trained on too.
        encoder: The real route; changed in place.
        checkpoints: Where training state is kept.
        params: The recipe.
        run: Seed and precision.

    Returns:
        The moving average of the weights, and the history, one row a step.

    Raises:
        ValueError: If the encoder cannot be fine-tuned, or there are fewer than two training images.
        FloatingPointError: If too many steps had a loss that was not finite; the last checkpoint is kept.
    """
    splits = found.training()
    # Nothing is chosen on the validation images here, and a small set needs every image.
    labels = {**splits.labels["train"], **splits.labels["val"]}
    if len(labels) < 2:
        raise ValueError(f"The set {found.name!r} must have two training images or more. Got {len(labels)} instead.")
    facts = {name: value for name, value in settings_of(run, params).items() if name not in NO_MATTER} | {
        "encoder": encoder.fingerprint,
        "images": hash_items(list(labels), lambda key: str(labels[key]).encode()),
    }
    class_count = len(found.task.classes)
    model = build_classifier(encoder, class_count, drop_path=params.drop_path, seed=run.seed).train()
    images = ClassifierImages(splits.images, labels, training_transform(encoder, params), seed=run.seed)
    training, floor = plan_fine_tuning(len(labels), params)
    step = FineTuningStep(model, images, params, steps=training.steps, seed=run.seed, class_count=class_count)
    checkpoint = checkpoints.open(
        f"fine_tuning_{found.name}",
        facts,
        every=params.checkpoint_every,
        buffers={f"average.{name}": value for name, value in step.average.module.state_dict().items()},
    )
    history = train(
        step,
        layer_groups(model, params, learning_rate=training.learning_rate),
        training,
        checkpoint,
        title=f"Fine-tuning on {found.name}",
        floor=floor,
        device=next(model.parameters()).device,
        precision=run.precision,
    )
    step.average.update(model)  # by the last step, whose update no later step makes
    return step.average.module.state_dict(), pd.DataFrame(history.rows)


def plan_fine_tuning(image_count: int, params: FineTuningParams) -> tuple[TrainingParams, float]:
    """Returns how long and how fast a classifier is trained on so many images, and the floor of its cosine."""
    batch_size = min(params.batch_size, image_count)
    per_epoch = image_count // batch_size
    learning_rate = params.base_learning_rate * params.batch_size / IMAGES_OF_BASE_RATE
    training = TrainingParams(
        steps=params.epochs * per_epoch,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=params.weight_decay,
        clip_norm=NO_CLIPPING,
        schedule="cosine",
        warmup_steps=params.warmup_epochs * per_epoch,
        checkpoint_every=params.checkpoint_every,
    )
    return training, min(1.0, params.min_learning_rate / learning_rate)


class FineTuningStep:
    """The step function of a fine-tuning run: a step's index to its losses; steps must come in order.

    Args:
        model: The classifier, trained in place.
        images: What it is trained on.
        params: Batch size, mixup and the like.
        steps: Steps of the whole run.
        seed: Seeds the order of the images and what is random about a step.
        class_count: Number of classes.

    Attributes:
        average: The exponential moving average of the weights, up to the step before.
    """

    def __init__(
        self,
        model: Any,
        images: "ClassifierImages",
        params: FineTuningParams,
        *,
        steps: int,
        seed: int,
        class_count: int,
    ) -> None:
        from timm.loss import SoftTargetCrossEntropy
        from timm.utils import ModelEmaV3

        # Not torch's AveragedModel: its first update copies the weights, where the recipe's average starts at them.
        self.average = ModelEmaV3(model, decay=params.ema_decay)
        self._model, self._images, self._params = model, images, params
        self._steps, self._seed = steps, seed
        self._mix, self._criterion = build_mixup(class_count, params), SoftTargetCrossEntropy()
        self._device = next(model.parameters()).device
        self._batches: Iterator[tuple[torch.Tensor, torch.Tensor]] | None = None

    def __call__(self, index: int) -> Losses:
        """Returns the losses of a step, their gradient accumulated part by part."""
        if self._batches is None:  # only now is it known where the run goes on
            self._batches = load_batches(self._images, self._parts(index), workers=self._params.loader_workers)
        if index > 0:  # the step before has ended only now
            self.average.update(self._model)
        with seeded(self._seed, index, device=self._device):
            size = self._params.micro_batch_size
            return accumulate_gradients(self._embed, self._losses, self._rows(index), size=size)

    def _rows(self, index: int) -> np.ndarray:
        rows = batch_rows(index, count=len(self._images), batch_size=self._params.batch_size, seed=self._seed)
        return rows[: len(rows) // 2 * 2]  # mixup joins images in pairs

    def _parts(self, first: int) -> Iterator[Sequence[Place]]:
        for index in range(first, self._steps):
            for part in split_rows(self._rows(index), self._params.micro_batch_size):
                yield [(index, int(row)) for row in part]

    def _embed(self, rows: np.ndarray) -> Views:
        assert self._batches is not None
        images, labels = next(self._batches)  # [B, 3, H, W], [B]
        mixed, targets = self._mix(images.to(self._device), labels.to(self._device))  # targets: [B, C]
        return {"logits": self._model(mixed), "targets": targets}

    def _losses(self, views: Views, first: int) -> Losses:
        return {"loss": self._criterion(views["logits"], views["targets"])}


@torch.no_grad()
def predict_classes(
    model: torch.nn.Module, encoder: TowerEncoder, found: LabelledImages, params: FineTuningParams, run: RunParams
) -> np.ndarray:
    """Returns the class with the largest logit of each image that is measured on, int64 [N].

    Args:
        model: The classifier, in eval mode.
        encoder: The route it was trained on.
        found: The set.
        params: How images are cut and loaded.
        run: Batch size and precision.

    Raises:
        FileNotFoundError: If an image is missing.
        ValueError: If one cannot be decoded; names it.
    """
    device = next(model.parameters()).device
    # Seed 0 whatever the run's: measuring draws nothing.
    images = ClassifierImages(found.images, found.task.labels, measuring_transform(encoder, params), seed=0)
    parts = [[(0, int(row)) for row in part] for part in split_rows(np.arange(len(images)), run.image_batch_size)]
    loaded = load_batches(images, parts, workers=params.loader_workers)
    predicted = []
    with fast_arithmetic(device, precision=run.precision):
        for batch, _ in tqdm(loaded, f"Classifying {found.name}", total=len(parts), disable=None):
            predicted.append(model(batch.to(device)).argmax(dim=1).cpu().numpy())
    return np.concatenate(predicted)


class ClassifierImages(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Labelled images, read, decoded and augmented when they are asked for and never kept: a set may be ImageNet.

    Args:
        source: Where the encoded images are.
        labels: The class of each image, by key; the order is that of the rows.
        transform: Maps an image to float32 [3, H, W].
        seed: Seeds the transform.
    """

    def __init__(
        self, source: ImageSource, labels: Mapping[str, int], transform: Callable[[Any], torch.Tensor], *, seed: int
    ) -> None:
        self._source, self._transform, self._seed = source, transform, seed
        self._keys, self._labels = list(labels), list(labels.values())

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, place: Place) -> tuple[torch.Tensor, int]:
        """Returns an image, float32 [3, H, W], and its class.

        Raises:
            ValueError: If it cannot be decoded; names it.
        """
        step, row = place
        key = self._keys[row]
        image = decode_image(self._source.read(key), name=key)
        with seeded(self._seed, step, row):
            return self._transform(image), self._labels[row]


def load_batches(
    images: ClassifierImages, batches: Iterable[Sequence[Place]], *, workers: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields images [B, 3, H, W] and labels [B] of each batch; the number of workers changes nothing about them.

    Args:
        images: What is read.
        batches: The places of each batch; may be a generator.
        workers: Processes that decode beside this one.
    """
    own = torch.Generator()  # a loader would draw from the common generator, and a resumed run draws it again
    loader = torch.utils.data.DataLoader(images, batch_sampler=batches, num_workers=workers, generator=own)  # type: ignore[arg-type]
    yield from loader


@contextlib.contextmanager
def seeded(*numbers: int, device: torch.device | None = None) -> Iterator[None]:
    """Everything random in the body comes from these numbers alone; afterwards the generators are as they were.

    Args:
        *numbers: What is drawn depends on; 0 or greater.
        device: A GPU whose generator is meant too.
    """
    # timm's and torchvision's transforms draw from all three generators: Python's, numpy's and torch's.
    words = np.random.SeedSequence(numbers).generate_state(3)
    is_gpu = device is not None and device.type == "cuda"
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if is_gpu else []):
        random.seed(int(words[0]))
        np.random.seed(int(words[1]))
        torch.default_generator.manual_seed(int(words[2]))
        if is_gpu:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(int(words[2]))
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
