"""How the consumers of the aligned features are trained: the captioner, and the text tower for retrieval."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.alignment import TRAINING_FREE
from gmail_kedro.params.base import Parameters, rules

TRAINING_SOURCES = ("generated", "real", "mixed", "text")


@dataclass(frozen=True)
class DownstreamParams(Parameters):
    """What the consumers train on, and how the captioner is trained.

    Attributes:
        model: ``clipcap`` (a prefix mapper before a language model) or ``ifcap`` (with retrieved captions; see the
            group ``ifcap``).
        pretrained: Folder of a captioner that is taken as it is, or null to train one.
        start_from: Folder of a captioner whose weights training goes on from, or null to train from the beginning.
        language_model: Name of the language model.
        language_model_path: Local folder of its weights, or null for the packaged or published weights.
        tune_language_model: What of it learns beside the mapper: ``full``, ``lora`` or ``none``.
        lora_rank: Rank of its LoRA factors.
        lora_alpha: Their update is scaled by ``lora_alpha / lora_rank``.
        lora_dropout: Dropout before the first factor.
        lora_targets: Modules that get factors, or null for the language model's own.
        train_on: ``generated`` (through the student), ``real`` (through the real route), ``mixed`` (both, as the
            Task2Sim row of the paper) or ``text`` (captions in place of pictures, ReVision's first stage).
        real_fraction: Share of real rows in ``mixed``.
        text_map: Training-free map from text to image features, for ``text``.
        mapper: ClipCap's: ``mlp`` or ``transformer``.
        mapper_layers: Blocks of a transformer mapper; IFCap's too.
        mapper_heads: Attention heads of its blocks.
        constant_count: Tokens that it spreads the embedding over.
        prefix_length: Soft tokens made from one embedding.
        normalize_prefix: Whether embeddings are brought to unit length; alignment constrains only their direction.
        caption_end: What closes a caption: ``end_token``, or ``period`` as in the published ClipCap.
        max_tokens: Longest caption, in tokens.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        warmup_steps: Linear warm-up, then linear decay to zero.
        steps: Optimizer steps.
        batch_size: Captions a step.
        clip_norm: Largest gradient norm.
        checkpoint_every: Steps between two checkpoints.
    """

    model: str
    pretrained: str | None
    start_from: str | None
    language_model: str
    language_model_path: str | None
    tune_language_model: str
    lora_rank: int
    lora_alpha: float
    lora_dropout: float
    lora_targets: list[str] | None
    train_on: str
    real_fraction: float
    text_map: str
    mapper: str
    mapper_layers: int
    mapper_heads: int
    constant_count: int
    prefix_length: int
    normalize_prefix: bool
    caption_end: str
    max_tokens: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    steps: int
    batch_size: int
    clip_norm: float
    checkpoint_every: int

    GROUP: ClassVar[str] = "downstream"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="lora_rank lora_alpha mapper_layers mapper_heads constant_count prefix_length max_tokens "
        "learning_rate steps batch_size clip_norm checkpoint_every",
        not_negative="weight_decay warmup_steps",
        fraction="real_fraction",
        below_one="lora_dropout",
        not_empty="language_model lora_targets",
    ) | {
        "model": ("clipcap", "ifcap"),
        "tune_language_model": ("full", "lora", "none"),
        "train_on": TRAINING_SOURCES,
        "text_map": TRAINING_FREE,
        "mapper": ("mlp", "transformer"),
        "caption_end": ("end_token", "period"),
    }

    def __post_init__(self) -> None:
        """Refuses values that contradict one another.

        Raises:
            ParameterError: At the first such value.
        """
        super().__post_init__()
        is_trained = self.pretrained is None
        self.refuse_unless(is_trained or self.start_from is None, "start_from", "null with a pretrained captioner")
        self.refuse_unless(self.model != "ifcap" or self.normalize_prefix, "normalize_prefix", "true with model: ifcap")


@dataclass(frozen=True)
class IfcapParams(Parameters):
    """What IFCap does beyond ClipCap; read only with ``downstream.model: ifcap``.

    Attributes:
        train_source: What stands for the image in training: ``text_noise`` (the caption's own text feature and noise,
            as published) or ``generated`` (images as ``downstream.train_on`` says, generated ones by default; no
            noise).
        query_noise_std: Standard deviation of the noise on a retrieval query, for ``text_noise``.
        feature_noise_variance: Variance of the noise on what the mapper reads, for ``text_noise``.
        retrieved_count: Captions whose features the fusion module looks at.
        nouns: How nouns are found: ``grammar`` (the mini world's own), ``textblob`` (a tagger that needs no data),
            ``nltk`` (as published; needs NLTK's data) or ``vocabulary`` (the words of a file).
        vocabulary: File with one noun a line, the only ones kept; null for all.
        entity_limit: Most nouns in a hard prompt.
        entity_drop: Share of a caption's nouns that training leaves out.
        entity_captions: Retrieved captions whose nouns are counted for an image.
        entity_filter: ``count`` (a noun occurs often enough) or ``adaptive`` (more often than most).
        entity_threshold: Occurrences that are enough, for ``count``.
        entity_alpha: Standard deviations above the mean, for ``adaptive``.
    """

    train_source: str
    query_noise_std: float
    feature_noise_variance: float
    retrieved_count: int
    nouns: str
    vocabulary: str | None
    entity_limit: int
    entity_drop: float
    entity_captions: int
    entity_filter: str
    entity_threshold: int
    entity_alpha: float

    GROUP: ClassVar[str] = "ifcap"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="retrieved_count entity_limit entity_captions entity_threshold",
        not_negative="query_noise_std feature_noise_variance",
        fraction="entity_drop",
    ) | {
        "train_source": ("text_noise", "generated"),
        "nouns": ("grammar", "textblob", "nltk", "vocabulary"),
        "entity_filter": ("count", "adaptive"),
    }

    def __post_init__(self) -> None:
        """Refuses values that contradict one another.

        Raises:
            ParameterError: At the first such value.
        """
        super().__post_init__()
        has_file = self.vocabulary is not None
        self.refuse_unless(self.nouns != "vocabulary" or has_file, "vocabulary", "a file with nouns: vocabulary")
        self.refuse_unless(self.nouns != "grammar" or not has_file, "vocabulary", "null with nouns: grammar")


@dataclass(frozen=True)
class RetrieverParams(Parameters):
    """How the text tower is tuned on the same features, for retrieval of real images.

    Attributes:
        steps: Optimizer steps; 0 leaves the text tower as it is.
        batch_size: Captions a step.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        warmup_steps: Linear warm-up, then cosine decay to zero.
        clip_norm: Largest gradient norm.
        checkpoint_every: Steps between two checkpoints.
    """

    steps: int
    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    clip_norm: float
    checkpoint_every: int

    GROUP: ClassVar[str] = "retriever"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="batch_size learning_rate clip_norm checkpoint_every", not_negative="steps weight_decay warmup_steps"
    )
