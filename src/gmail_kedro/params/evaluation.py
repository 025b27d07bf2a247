"""What is measured on real images."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters, rules
from gmail_kedro.params.protocols import PROTOCOLS


@dataclass(frozen=True)
class EvaluationParams(Parameters):
    """What is measured on real test images.

    Attributes:
        split: ``val`` while tuning, ``test`` once at the end.
        image_count: Largest number of test photographs, or null for all.
        beam_size: Beams of the captioner's search.
        caption_tokenizer: ``simple`` (no Java) or ``ptb`` (Java).
        meteor: Whether METEOR is measured; it starts Java and takes several seconds.
        word_vectors: Of the word mover's similarity: a file of word2vec or GloVe, ``own`` for vectors trained on the
            corpus's training captions, or null to leave it out.
        scene_tuples: Whether the F1 of stated facts is measured; only the mini world's grammar can be parsed exactly.
        retrieval_protocol: A name of ``PROTOCOLS`` whose counts must hold, or null for the corpus as it is.
        class_sets: Names of the classification sets that are measured, of the corpus's own tasks and of the catalog's
            ``class_sets``; null for all, an empty list for none.
        linear_probe: Whether linear classifiers are trained on the image features, for those of ``class_sets`` that
            are not fine-tuned on.
        bootstrap_count: Resamples behind each interval.
        seed: Seeds the resampling.
    """

    split: str
    image_count: int | None
    beam_size: int
    caption_tokenizer: str
    meteor: bool
    word_vectors: str | None
    scene_tuples: bool
    retrieval_protocol: str | None
    class_sets: list[str] | None
    linear_probe: bool
    bootstrap_count: int
    seed: int

    GROUP: ClassVar[str] = "evaluation"
    RULES: ClassVar[dict[str, Any]] = rules(
        positive="image_count beam_size bootstrap_count", not_negative="seed", not_empty="word_vectors"
    ) | {
        "split": ("val", "test"),
        "caption_tokenizer": ("simple", "ptb"),
        "retrieval_protocol": tuple(PROTOCOLS),
    }

    def __post_init__(self) -> None:
        """Refuses a part of the corpus where a protocol wants a whole one.

        Raises:
            ParameterError: If both ``image_count`` and ``retrieval_protocol`` are set.
        """
        super().__post_init__()
        self.refuse_unless(
            self.image_count is None or self.retrieval_protocol is None,
            "image_count",
            "null with a retrieval_protocol, which says how many photographs there are",
        )
