"""What the consumers train on: features of the declared source, each through its own route."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.batching import mixed_rows
from gmail_kedro.engine.inference import Encoding
from gmail_kedro.interfaces import Corpus, GeneratedImages
from gmail_kedro.method.realign import FeatureMap, fit_feature_map
from gmail_kedro.params import DownstreamParams, RunParams
from gmail_kedro.zoo.student import StoredStudent


@dataclass(frozen=True)
class TrainingFeatures:
    """Embeddings with the pair each belongs to.

    Attributes:
        embeddings: float32 [M, D].
        rows: Row of the pairs table that gives each one's caption and split, int64 [M].
    """

    embeddings: torch.Tensor
    rows: np.ndarray


class FeatureSource:
    """Encodes the pairs from one side or another.

    Args:
        pairs: The pairs, N of them.
        corpus: Has the photographs.
        generated_images: Has the generated pictures.
        adapter: The student, with the routes through it.
        feature_map: Its training-free map.
        run: Names the encoder.
        encoding: How pictures and texts are encoded.
    """

    def __init__(
        self,
        pairs: pd.DataFrame,
        corpus: Corpus,
        generated_images: GeneratedImages,
        adapter: StoredStudent,
        feature_map: FeatureMap,
        run: RunParams,
        encoding: Encoding,
    ) -> None:
        self._pairs, self._corpus, self._generated_images = pairs, corpus, generated_images
        self._adapter, self._map, self._run, self._encoding = adapter, feature_map, run, encoding

    def generated(self, *, seed: int) -> torch.Tensor:
        """Returns generated pictures through the generated route and the map, [N, D]; the seed is C3's noise."""
        features = self._encode("generated", self._generated_images, "generated_key")
        return features if self._map.kind == "none" else self._map.source(features, noise_seed=seed)

    def real(self) -> torch.Tensor:
        """Returns photographs through the real route, [N, D]."""
        features = self._encode("real", self._corpus.images, "real_key")
        return features if self._map.kind == "none" else self._map.target(features)

    def text(self, kind: str, *, seed: int) -> torch.Tensor:
        """Returns captions mapped to where photographs lie, [N, D]; the map is fitted on the training split."""
        from gmail_kedro.engine.inference import encode_texts
        from gmail_kedro.zoo.encoders import build_encoder

        encoder = build_encoder(self._run.encoder, self._run.encoder_path, device=self._encoding.device)
        texts, photographs = encode_texts(encoder, list(self._pairs["caption"]), self._encoding), self.real()
        is_train = (self._pairs["split"] == "train").to_numpy().copy()
        fitted = fit_feature_map(kind, lambda: [texts[is_train]], lambda: [photographs[is_train]])
        return fitted.source(texts, noise_seed=seed)

    def _encode(self, route: str, source: Any, column: str) -> torch.Tensor:
        from gmail_kedro.engine.inference import encode_images
        from gmail_kedro.zoo.encoders import build_encoder
        from gmail_kedro.zoo.student import take_route

        encoder = build_encoder(self._run.encoder, self._run.encoder_path, device=self._encoding.device)
        encoder = take_route(encoder, self._adapter, route)
        return encode_images(encoder, source, list(self._pairs[column]), self._encoding)


def gather(source: FeatureSource, params: DownstreamParams, *, count: int, seed: int) -> TrainingFeatures:
    """Returns the embeddings that ``train_on`` names.

    Args:
        source: Encodes the pairs.
        params: Says which side, and the share of real rows in ``mixed``.
        count: Number of pairs.
        seed: Seeds C3's noise and the choice of rows in ``mixed``.
    """
    everything = np.arange(count)
    if params.train_on == "real":
        return TrainingFeatures(source.real(), everything)
    if params.train_on == "text":
        return TrainingFeatures(source.text(params.text_map, seed=seed), everything)
    if params.train_on == "generated":
        return TrainingFeatures(source.generated(seed=seed), everything)
    real_rows, generated_rows = mixed_rows(count, params.real_fraction, seed=seed)
    real, generated = source.real()[real_rows], source.generated(seed=seed)[generated_rows]
    return TrainingFeatures(torch.cat([real, generated]), np.concatenate([real_rows, generated_rows]))
