"""What a captioner is trained on: its examples by row, and their loss, whichever captioner it is."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.models.captioners.captioner import Captioner
from gmail_kedro.models.captioners.ifcap import IfcapCaptioner
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX


class CaptionExamples(Protocol):
    """Examples of one captioner, training and validation rows together.

    Attributes:
        tokens: Token ids of the captions, [M, T], padded with -100.
    """

    tokens: torch.Tensor

    @property
    def captioner(self) -> Captioner:
        """What is trained."""
        ...

    def loss(self, rows: np.ndarray, step: int | None) -> torch.Tensor:
        """Returns the mean loss of some rows; random choices depend on the step alone, and None makes none."""
        ...


class ClipcapExamples:
    """Embeddings and captions.

    Args:
        captioner: Trained in place.
        embeddings: What stands for the image, float32 [M, D].
        tokens: Token ids of the captions, [M, T], padded with -100.
        device: Where the captioner is.
    """

    def __init__(
        self, captioner: Captioner, embeddings: torch.Tensor, tokens: torch.Tensor, *, device: torch.device
    ) -> None:
        self.captioner, self.tokens = captioner, tokens.to(device)
        self._embeddings = embeddings.to(device)

    def loss(self, rows: np.ndarray, step: int | None) -> torch.Tensor:
        """Returns the mean loss of some rows; nothing in it is random."""
        return self.captioner.loss(self._embeddings[rows], self.tokens[rows])


class IfcapExamples:
    """Embeddings, captions, retrieved captions and entities; noise and the choice of entities change with the step.

    Args:
        captioner: Trained in place.
        embeddings: What stands for the image, float32 [M, D].
        tokens: Token ids of the captions, [M, T], padded with -100.
        retrieved: Rows of the captioner's memory, int64 [M, K].
        entities: The distinct nouns of each caption.
        noise_std: Standard deviation of the noise on the unit embedding; 0 for none.
        drop: Share of the entities that a step leaves out.
        seed: Seeds noise and choice.
    """

    def __init__(
        self,
        captioner: IfcapCaptioner,
        embeddings: torch.Tensor,
        tokens: torch.Tensor,
        retrieved: torch.Tensor,
        entities: Sequence[Sequence[str]],
        *,
        noise_std: float,
        drop: float,
        seed: int,
    ) -> None:
        self.captioner, self.tokens = captioner, tokens
        self._embeddings, self._retrieved, self._entities = embeddings, retrieved, entities
        self._noise_std, self._drop, self._seed = noise_std, drop, seed

    def loss(self, rows: np.ndarray, step: int | None) -> torch.Tensor:
        """Returns the mean loss of some rows; without a step there is no noise and no entity is left out."""
        limit = self.captioner.details.entities.limit
        embeddings, entities = self._embeddings[rows], [list(self._entities[row]) for row in rows]
        if step is not None:
            rng = np.random.default_rng((self._seed, 31, step))
            embeddings = add_noise(embeddings, self._noise_std, rng)
            entities = [[noun for noun in named if rng.random() >= self._drop] for named in entities]
        device = next(self.captioner.mapper.parameters()).device
        entities = [named[:limit] for named in entities]
        return self.captioner.loss_with(embeddings.to(device), self.tokens[rows], self._retrieved[rows], entities)


def add_noise(embeddings: torch.Tensor, std: float, rng: np.random.Generator) -> torch.Tensor:
    """Returns N(N(f) + noise) of each row, where N brings to unit length; with ``std`` 0 the rows as they are.

    Args:
        embeddings: float32 [N, D], any norm.
        std: Standard deviation of the noise in each coordinate.
        rng: Source of the noise.
    """
    if std == 0:
        return embeddings
    noise = torch.from_numpy(rng.standard_normal(tuple(embeddings.shape), dtype=np.float32))
    return F.normalize(F.normalize(embeddings, dim=-1) + std * noise, dim=-1)


def count_tokens(tokens: torch.Tensor) -> int:
    """Returns the number of tokens that are not padding."""
    return int((tokens != IGNORE_INDEX).sum())
