"""Pictures for training and measuring a classifier: read, decoded and augmented when they are asked for, never kept."""

import contextlib
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageSource

Place = tuple[int, int]  # the step, and the row of a picture


class Pictures(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    """Labelled pictures; what is random about one depends on the seed, the step and the row alone.

    Args:
        source: Where the encoded pictures are.
        labels: The class of each picture, by key; the order is that of the rows.
        transform: Maps a picture to float32 [3, H, W].
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
        """Returns a picture, float32 [3, H, W], and its class.

        Raises:
            ValueError: If it cannot be decoded; names it.
        """
        step, row = place
        key = self._keys[row]
        picture = decode_image(self._source.read(key), name=key)
        with seeded(self._seed, step, row):
            return self._transform(picture), self._labels[row]


def load_batches(
    pictures: Pictures, batches: Iterable[Sequence[Place]], *, workers: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yields images [B, 3, H, W] and labels [B] of each batch; the number of workers changes nothing about them.

    Args:
        pictures: What is read.
        batches: The places of each batch; may be a generator.
        workers: Processes that decode beside this one.
    """
    own = torch.Generator()  # a loader would draw from the common generator, and a resumed run draws it again
    loader = torch.utils.data.DataLoader(pictures, batch_sampler=batches, num_workers=workers, generator=own)  # type: ignore[arg-type]
    yield from loader


@contextlib.contextmanager
def seeded(*numbers: int, device: torch.device | None = None) -> Iterator[None]:
    """Everything random in the body comes from these numbers alone; afterwards the generators are as they were.

    Args:
        *numbers: What is drawn depends on; 0 or greater.
        device: A GPU whose generator is meant too.
    """
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
