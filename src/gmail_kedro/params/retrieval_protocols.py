"""The retrieval protocols that papers compare on, by name: which images, how many captions of each."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

from pydantic import AfterValidator


class RetrievalProtocol(NamedTuple):
    """What must be ranked for a number to go by a protocol's name; all images are queries and candidates.

    Attributes:
        corpus: The corpus and its part, in words.
        image_count: Real images.
        captions_per_image: The first so many captions of each image; further ones are left out.
    """

    corpus: str
    image_count: int
    captions_per_image: int

    @property
    def caption_count(self) -> int:
        """Captions in all."""
        return self.image_count * self.captions_per_image


# Long-CLIP's script ranks all of Flickr30k; its numbers are far below those of the usual test split of 1,000.
PROTOCOLS: Mapping[str, RetrievalProtocol] = {
    "coco_val2017_5k": RetrievalProtocol("COCO val2017, as Long-CLIP takes it", 5_000, 5),
    "coco_karpathy_5k": RetrievalProtocol("COCO, Karpathy's test split", 5_000, 5),
    "flickr30k_whole": RetrievalProtocol("Flickr30k, every image, as Long-CLIP takes it", 31_783, 5),
    "flickr30k_1k": RetrievalProtocol("Flickr30k, Karpathy's test split", 1_000, 5),
    "sharegpt4v_1k": RetrievalProtocol("ShareGPT4V, the first 1,000 long captions", 1_000, 1),
}


def _known(name: str) -> str:
    if name not in PROTOCOLS:
        raise ValueError(f"one of {list(PROTOCOLS)}")
    return name


ProtocolName = Annotated[str, AfterValidator(_known)]


def check_protocol(name: str, *, image_count: int, caption_count: int) -> None:
    """Checks that what is to be ranked is what the protocol ranks, each image's first captions taken.

    Raises:
        ValueError: If either count is not the protocol's: an image is missing, or it is another split.
    """
    protocol = PROTOCOLS[name]
    if (image_count, caption_count) != (protocol.image_count, protocol.caption_count):
        raise ValueError(
            f"The retrieval protocol {name!r} ranks {protocol.image_count} images with {protocol.caption_count} "
            f"captions ({protocol.corpus}). Got {image_count} with {caption_count}. Complete the corpus or choose its "
            "split, or set the parameter that names the protocol to null; the scores then name none."
        )
