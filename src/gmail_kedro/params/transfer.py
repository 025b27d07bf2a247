"""What is measured on the corpora that nothing was trained on."""

from dataclasses import dataclass
from typing import Any, ClassVar

from gmail_kedro.params.base import Parameters
from gmail_kedro.params.protocols import PROTOCOLS


@dataclass(frozen=True)
class TransferParams(Parameters):
    """Which retrieval protocols hold on the other corpora; resampling is that of ``evaluation``.

    Attributes:
        flickr_protocol: A name of ``PROTOCOLS`` whose counts must hold on ``flickr_corpus``, or null for its whole
            test split.
        long_caption_protocol: The same of ``long_caption_corpus``.
    """

    flickr_protocol: str | None
    long_caption_protocol: str | None

    GROUP: ClassVar[str] = "transfer"
    RULES: ClassVar[dict[str, Any]] = {
        "flickr_protocol": tuple(PROTOCOLS),
        "long_caption_protocol": tuple(PROTOCOLS),
    }
