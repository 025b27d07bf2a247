"""What the consumers train on: features of the declared source, each through its own route.

Generated images take the generated route and real ones the real route, never the other way round: ``encode_images``
refuses it, for the features would be of the modality that alignment was to remove.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from gmail_kedro.engine.batches import mixed_rows
from gmail_kedro.engine.inference import Encoding, encode_images, encode_texts
from gmail_kedro.interfaces import Corpus, FeatureOrigin, GeneratedImages, ImageSource
from gmail_kedro.method.realign import FeatureMap, fit_feature_map
from gmail_kedro.models.encoders.towers import TowerEncoder
from gmail_kedro.models.student.student import StoredStudent
from gmail_kedro.params.downstream import DownstreamParams, IfcapParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.whole_files import hash_tensors


@dataclass(frozen=True)
class TrainingFeatures:
    """Embeddings with the pair each belongs to.

    Attributes:
        embeddings: float32 [M, D].
        rows: Row of the pairs table that gives each one's caption and split, int64 [M].
        origin: What made the embeddings.
        texts: Text feature of each pair's caption, float32 [N, D], for a captioner that retrieves; else None.
    """

    embeddings: torch.Tensor
    rows: np.ndarray
    origin: FeatureOrigin
    texts: torch.Tensor | None = None

    def facts(self) -> dict[str, str]:
        """Returns what a checkpoint of their consumer remembers of them."""
        texts = {} if self.texts is None else {"texts": self.texts}
        return {"features": hash_tensors({"features": self.embeddings} | texts)}


@dataclass(frozen=True)
class FeatureSource:
    """Encodes N pairs from one side or another."""

    pairs: pd.DataFrame
    corpus: Corpus
    generated_images: GeneratedImages
    adapter: StoredStudent
    feature_map: FeatureMap
    run: RunParams
    encoding: Encoding

    def __len__(self) -> int:
        return len(self.pairs)

    def generated(self, *, seed: int) -> torch.Tensor:
        """Returns generated images through the generated route and the map, [N, D]; the seed is C3's noise."""
        features = self._encode("generated", self.generated_images)
        return features if self.feature_map.kind == "none" else self.feature_map.source(features, noise_seed=seed)

    def real(self) -> torch.Tensor:
        """Returns real images through the real route, [N, D]."""
        features = self._encode("real", self.corpus.images)
        return features if self.feature_map.kind == "none" else self.feature_map.target(features)

    def text(self, kind: str, *, seed: int) -> torch.Tensor:
        """Returns captions mapped to where real images lie, [N, D]; the map is fitted on the training split."""
        texts = encode_texts(self._teacher(), list(self.pairs["caption"]), self.encoding)  # [N, D]
        real = self.real()  # [N, D]
        is_train = (self.pairs["split"] == "train").to_numpy().copy()
        fitted = fit_feature_map(kind, lambda: [texts[is_train]], lambda: [real[is_train]])
        return fitted.source(texts, noise_seed=seed)

    def captions(self) -> torch.Tensor:
        """Returns the captions as they are, through the text tower beside the real route, [N, D].

        Raises:
            ValueError: If the encoder reads no texts.
        """
        encoder = self._route("real")
        if encoder.text_tower is None:
            raise ValueError(
                f"The encoder {encoder.name!r} reads no texts, and IFCap retrieves captions by their text features. "
                "Set downstream.model: clipcap, or another run.encoder."
            )
        return encode_texts(encoder, list(self.pairs["caption"]), self.encoding)

    def origin(self, *sides: str) -> FeatureOrigin:
        """Returns what makes the features: this encoder, student and map, on the given sides."""
        from gmail_kedro.models.student.student import describe_origin

        return describe_origin(
            self._route("real"),
            self.adapter,
            sides=sides,
            map_kind=self.feature_map.kind,
            map_tensors=self.feature_map.statistics,
        )

    def _teacher(self) -> TowerEncoder:
        from gmail_kedro.models.encoders.known_encoders import build_teacher

        return build_teacher(self.run, self.encoding.device)

    def _route(self, route: str) -> TowerEncoder:
        from gmail_kedro.models.student.student import take_route

        return take_route(self._teacher(), self.adapter, route)

    def _encode(self, route: str, source: ImageSource) -> torch.Tensor:
        return encode_images(self._route(route), source, list(self.pairs[f"{route}_key"]), self.encoding)


def gather(source: FeatureSource, params: DownstreamParams, ifcap: IfcapParams, *, seed: int) -> TrainingFeatures:
    """Returns the embeddings that ``train_on`` or IFCap's ``train_source`` names, and the captions' if it retrieves.

    Args:
        source: Encodes the pairs.
        params: Says which side, and the share of real rows in ``mixed``.
        ifcap: Says whether captions stand for images; only read for IFCap.
        seed: Seeds C3's noise and the choice of rows in ``mixed``.
    """
    everything = np.arange(len(source))
    texts = source.captions() if params.model == "ifcap" else None
    if texts is not None and ifcap.train_source == "text_noise":
        return TrainingFeatures(texts, everything, source.origin("text"), texts)
    if params.train_on == "real":
        return TrainingFeatures(source.real(), everything, source.origin("real"), texts)
    if params.train_on == "text":
        return TrainingFeatures(source.text(params.text_map, seed=seed), everything, source.origin("text"), texts)
    if params.train_on == "generated":
        return TrainingFeatures(source.generated(seed=seed), everything, source.origin("generated"), texts)
    # Both sides whole, then the rows: what is stored in the feature store is found again by other shares.
    real_rows, generated_rows = mixed_rows(len(source), params.real_fraction, seed=seed)
    real, generated = source.real()[real_rows], source.generated(seed=seed)[generated_rows]
    rows = np.concatenate([real_rows, generated_rows])  # [M]
    return TrainingFeatures(torch.cat([real, generated]), rows, source.origin("generated", "real"), texts)
