"""How the consumers of the aligned features are trained: the captioner, and the text tower for retrieval."""

from typing import ClassVar, Literal, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from gmail_kedro.params.alignment import TrainingFree
from gmail_kedro.params.base import Fraction, LoraParams, Parameters, Text, TrainingParams


class CaptionerTraining(TrainingParams):
    """A captioner is always trained for a step or more."""

    steps: PositiveInt


class DownstreamParams(Parameters):
    """What the consumers train on, and how the captioner is trained."""

    GROUP: ClassVar[str] = "downstream"

    model: Literal["clipcap", "ifcap"]  # ifcap adds retrieved captions; see the group ifcap
    pretrained: str | None  # folder of a captioner that is taken as it is; null: one is trained
    start_from: str | None  # folder of a captioner that training goes on from; null: from the beginning
    language_model: Text
    language_model_path: str | None  # local folder of its weights; null: the packaged or published ones
    tune_language_model: Literal["full", "lora", "none"]  # beside the mapper, which always learns
    lora: LoraParams  # targets null: the language model's own
    # Generated images (through the student), real ones (through the real path), both (the paper's Task2Sim row), or
    # captions in place of images (ReVision's first stage).
    train_on: Literal["generated", "real", "mixed", "text"]
    real_fraction: Fraction  # of the rows in mixed
    text_map: TrainingFree  # from text to image features, for train_on: text
    mapper: Literal["mlp", "transformer"]  # ClipCap's
    mapper_layers: PositiveInt  # of a transformer mapper; IFCap's too
    mapper_heads: PositiveInt
    constant_count: PositiveInt  # tokens that a transformer mapper spreads the embedding over
    prefix_length: PositiveInt  # soft tokens made from one embedding
    normalize_prefix: bool  # embeddings to unit length: alignment constrains only their direction
    caption_end: Literal["end_token", "period"]  # period: as in the published ClipCap
    max_tokens: PositiveInt
    training: CaptionerTraining

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        is_trained = self.pretrained is None
        self.refuse_unless(is_trained or self.start_from is None, "start_from", "null with a pretrained captioner")
        self.refuse_unless(self.model != "ifcap" or self.normalize_prefix, "normalize_prefix", "true with model: ifcap")
        return self


class IfcapParams(Parameters):
    """What IFCap does beyond ClipCap; read only with ``downstream.model: ifcap``."""

    GROUP: ClassVar[str] = "ifcap"

    # What stands for the image in training: the caption's own text feature and noise, as published; or images as
    # downstream.train_on says, without noise.
    train_source: Literal["text_noise", "generated"]
    query_noise_std: NonNegativeFloat  # on a retrieval query, for text_noise
    feature_noise_variance: NonNegativeFloat  # on what the mapper reads, for text_noise
    retrieved_count: PositiveInt  # captions whose features the fusion module sees
    # How nouns are found: the mini world's grammar, a tagger that needs no data, as published (needs NLTK's data), or
    # the words of a file.
    nouns: Literal["grammar", "textblob", "nltk", "vocabulary"]
    vocabulary: str | None  # file with one noun a line, the only ones kept; null: all
    entity_limit: PositiveInt  # most nouns in a hard prompt
    entity_drop: Fraction  # share of a caption's nouns that training leaves out
    entity_captions: PositiveInt  # retrieved captions whose nouns are counted for an image
    entity_filter: Literal["count", "adaptive"]  # a noun occurs often enough, or more often than most
    entity_threshold: PositiveInt  # occurrences that are enough, for count
    entity_alpha: float  # standard deviations above the mean, for adaptive

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        has_file = self.vocabulary is not None
        self.refuse_unless(self.nouns != "vocabulary" or has_file, "vocabulary", "a file with nouns: vocabulary")
        self.refuse_unless(self.nouns != "grammar" or not has_file, "vocabulary", "null with nouns: grammar")
        return self


class RetrieverParams(Parameters):
    """How the text tower is tuned on the same features, for retrieval of real images; with 0 steps it is not."""

    GROUP: ClassVar[str] = "retriever"

    training: TrainingParams
