"""What is measured on real images."""

from typing import ClassVar, Literal, Self

from pydantic import NonNegativeInt, PositiveInt, model_validator

from gmail_kedro.params.base import Parameters, Text
from gmail_kedro.params.retrieval_protocols import ProtocolName


class EvaluationParams(Parameters):
    """What is measured on real test images."""

    GROUP: ClassVar[str] = "evaluation"

    split: Literal["val", "test"]  # val while tuning, test once at the end
    image_count: PositiveInt | None  # largest number of test images; null: all
    beam_size: PositiveInt  # of the captioner's search
    caption_tokenizer: Literal["simple", "ptb"]  # ptb, the COCO evaluation's, needs Java
    meteor: bool  # starts Java, where there is one, and takes several seconds
    word_vectors: Text | None  # of the word mover's similarity: a word2vec or GloVe file, or own: trained on the corpus
    scene_tuples: bool  # exact F1 of stated facts; only the mini world's captions can be parsed
    retrieval_protocol: ProtocolName | None  # its counts must hold; null: the corpus as it is
    class_sets: list[str] | None  # names of the corpus's tasks and of the catalog's class_sets; null: all, []: none
    linear_probe: bool  # linear classifiers on the image features, but for fine_tuning.sets (SynCLR)
    bootstrap_count: PositiveInt  # resamples behind each interval
    seed: NonNegativeInt

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        self.refuse_unless(
            self.image_count is None or self.retrieval_protocol is None,
            "image_count",
            "null with a retrieval_protocol, which says how many images there are",
        )
        return self
