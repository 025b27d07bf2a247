"""What the rooms agree on: protocols of the models and the value types that flow between nodes.

A room below another may not import it, and most rooms may not import one another: what they hand over is described
here. The encoder's protocol has one implementation (``models.encoders.towers.TowerEncoder``) and is here so that the
engine, which knows no models, can encode.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

SPLITS = ("train", "val", "test")  # of a corpus; files may divide it otherwise, their readers translate
EVALUATION_SPLITS = ("val", "test")
IMAGE_MARK = "<image>"  # where an image stands in what a vision-language model reads


class ImageTextEncoder(Protocol):
    """An image-text model. Embeddings are not normalised; what reads text is refused by a vision-only model.

    Attributes:
        name: Name of the model.
        embed_dim: Width D of the embeddings.
        pooled_dim: Width W of the image tower's pooled features, before the projection.
        context_length: Longest text, in tokens, start and end included; 0 for a vision-only model.
        fingerprint: Hash of weights, configuration, preprocessing and tokenizer; equal ones give equal embeddings.
        logit_scale: What the model's own loss multiplies cosines by, one over the temperature.
        logit_bias: What a sigmoid loss (SigLIP) adds to them; None for a softmax loss (CLIP).
        route: The only modality it may encode, ``generated`` or ``real``; None for a teacher, which takes both.
        image_tower: The module an adapter is put into; maps images [B, 3, H, W] to pooled features [B, W] and
            patch tokens [B, P, W'].
        text_tower: Maps token ids to embeddings; None for a vision-only model.
        projection: The frozen projection [W, D]; None where W is D and nothing is projected.
    """

    name: str
    embed_dim: int
    pooled_dim: int
    context_length: int
    fingerprint: str
    logit_scale: float
    logit_bias: float | None
    route: str | None
    image_tower: torch.nn.Module
    text_tower: torch.nn.Module | None
    projection: torch.Tensor | None

    def preprocess(self, image: "Image") -> torch.Tensor:
        """Maps an image to the tower's input, float32 of shape [3, H, W]."""
        ...

    def tokenize(self, texts: Sequence[str]) -> torch.Tensor:
        """Maps texts to token ids [B, L]; longer texts are cut, the end token kept."""
        ...

    def count_truncated(self, texts: Sequence[str]) -> int:
        """Counts the texts that ``tokenize`` would cut."""
        ...

    def pool_image(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps images [B, 3, H, W] to the tower's pooled features [B, W] and patch tokens [B, P, W']."""
        ...

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Maps images [B, 3, H, W] to embeddings [B, D]: the pooled features, projected."""
        ...

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        """Maps token ids [B, L] to embeddings [B, D]."""
        ...


@dataclass(frozen=True)
class Decoded:
    """What a generator's latents became.

    Attributes:
        image: The RGB image; None where there is a fault.
        fault: Empty when all is well; ``not_finite`` when the latents or the pixels hold NaN or infinity, ``safety``
            when the generator's own safety checker flagged the image.
    """

    image: "Image | None"
    fault: str = ""


class ImageGenerator(Protocol):
    """A text-to-image model whose image depends on its row alone, not on its batch.

    Attributes:
        name: Name of the model.
        revision: Hash of the weights; goes into the manifest.
        prompt_tokens: Longest prompt, in tokens.
    """

    name: str
    revision: str
    prompt_tokens: int

    def count_truncated(self, prompts: Sequence[str]) -> int:
        """Counts the prompts that are cut at ``prompt_tokens``."""
        ...

    def denoise(self, prompts: Sequence[str], seeds: Sequence[int]) -> torch.Tensor:
        """Returns the latents of one image for each prompt [B, ...], its starting noise drawn from its own seed."""
        ...

    def decode(self, latents: torch.Tensor) -> list[Decoded]:
        """Turns latents [B, ...] into images; another thread may call it while this one denoises the next batch."""
        ...

    def generate(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[Decoded]:
        """Makes one image for each prompt: ``decode(denoise(prompts, seeds))``."""
        ...


class ImageSource(Protocol):
    """Encoded images by key, read when asked for.

    A source may say in its attribute ``modality`` whether its images are ``generated`` or ``real``; an encoder on
    the route of the other modality then refuses them.
    """

    def read(self, key: str) -> bytes:
        """Returns the encoded image.

        Raises:
            FileNotFoundError: If there is no such image; the message names it and its home.
        """
        ...


class GeneratedImages(ImageSource, Protocol):
    """A generated set on disk: images by key, with what made them."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What tells the set from others: its ``name``, ``fingerprint`` and ``gate``."""
        ...

    def keys(self) -> Iterator[str]:
        """Yields the key of every image, shard by shard."""
        ...


@dataclass(frozen=True)
class ImageRecord:
    """One generated image in a shard.

    Attributes:
        key: ``caption_id/sample_index``, unique in the set.
        jpeg: The encoded image.
        facts: What was asked for: prompt, seed and the like; JSON values only.
    """

    key: str
    jpeg: bytes
    facts: Mapping[str, Any]


class SavesItself(Protocol):
    """A model, pipeline, tokenizer, captioner or adapter that writes its own folder."""

    def save_pretrained(self, folder: Path) -> Any:
        """Writes all files into the folder."""
        ...


@dataclass(frozen=True)
class CaptionGrammar:
    """What is known of captions that were made by a grammar, so that nothing about them has to be guessed.

    Attributes:
        nouns: All nouns that the captions use.
        facts: Maps a caption to the facts that it states, such as ``("ink", "blue")``.
        ask: Maps a caption, a random generator and ``count`` to at most so many questions that the caption answers,
            each with its answer.
    """

    nouns: frozenset[str]
    facts: Callable[[str], frozenset[tuple[str, ...]]]
    ask: Callable[..., list[tuple[str, str]]]


@dataclass(frozen=True)
class Corpus:
    """A captioned corpus of real images.

    Attributes:
        name: What reports call it.
        captions: One row a caption: ``caption_id``, ``image_id``, ``caption``, ``split`` (train, val or test).
        images: The real images, by ``image_id``.
        labels: Zero-shot classification tasks of the corpus, by name; empty where there are none.
        skipped: How many entries of its files were left out, by reason.
        grammar: What made the captions; None where people did.
    """

    name: str
    captions: "pd.DataFrame"
    images: ImageSource
    labels: Mapping[str, "ClassificationTask"]
    skipped: Mapping[str, int] = field(default_factory=dict)
    grammar: CaptionGrammar | None = None


@dataclass(frozen=True)
class FeatureOrigin:
    """What embeddings were made by, so that what was trained on them is not given others.

    Attributes:
        encoder: Name of the encoder.
        sides: What was encoded, each by its own route: ``generated``, ``real``, ``text``.
        real_route: Fingerprint of what real images go through beside them; None where nobody knows.
        student: Fingerprint of the student; None where nobody knows.
        feature_map: Kind and fingerprint of the training-free map; None where nobody knows.
    """

    encoder: str
    sides: tuple[str, ...]
    real_route: str | None = None
    student: str | None = None
    feature_map: str | None = None


@dataclass(frozen=True)
class ClassificationTask:
    """A zero-shot classification benchmark.

    Attributes:
        classes: The class names, in the order of the labels.
        templates: Prompts with one ``{}`` for the class name.
        labels: The class index of each image, by ``image_id``.
    """

    classes: Sequence[str]
    templates: Sequence[str]
    labels: Mapping[str, int]


@dataclass(frozen=True)
class TrainingSplits:
    """What of a classification set may be trained on.

    Attributes:
        images: The images, by the ids of the labels.
        labels: The class index of each image of ``train`` and of ``val``, by split and id.
    """

    images: ImageSource
    labels: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class LabelledImages:
    """A classification set: its own images, classes and metric.

    Attributes:
        name: What reports call it.
        images: The images that are measured on, by the ids of the task's labels.
        task: Classes, templates, and the labels of what is measured on.
        metric: What the literature reports on it: ``acc1`` or ``mean_per_class_recall``.
        training: Reads what may be trained on, none of it measured on. Zero-shot measurements never ask for it, so its
            files need not be there for them.
    """

    name: str
    images: ImageSource
    task: ClassificationTask
    metric: str
    training: Callable[[], TrainingSplits]


@dataclass(frozen=True)
class Question:
    """A question of a benchmark.

    Attributes:
        question_id: Its id, unique in the benchmark.
        image: The encoded image, the first where there are several, or None where there is none.
        text: The question.
        options: The choices, in the order of their letters; empty for an open question.
        answers: With options the letter of the right one, whose words may stand at another letter too; otherwise what
            is accepted, and taught in the words of the first.
        context: What is told before the question; may be empty.
        subject: What scores are grouped by.
    """

    question_id: str
    image: bytes | None
    text: str
    options: tuple[str, ...]
    answers: tuple[str, ...]
    context: str
    subject: str
