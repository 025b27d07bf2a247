"""What is measured on the corpora that nothing was trained on."""

from typing import ClassVar

from gmail_kedro.params.base import Parameters
from gmail_kedro.params.retrieval_protocols import ProtocolName


class TransferParams(Parameters):
    """Whose counts must hold on the other corpora (null: their whole test split); resampling as in ``evaluation``."""

    GROUP: ClassVar[str] = "transfer"

    flickr_protocol: ProtocolName | None  # on flickr_corpus
    long_caption_protocol: ProtocolName | None  # on long_caption_corpus
