"""The codec-matched control: images of any origin, sent through one and the same resize and JPEG.

Real images come as somebody's JPEG, generated ones as ours, at other sizes; an encoder sees that. What is left
of a gap when both sides have gone through one codec is not the codec's.
"""

import io

from PIL import Image

from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import ImageSource

CHROMA_HALVED = 2  # Pillow's name for 4:2:0, as in most photos; neither side keeps more colour than that


class CodecMatchedImages:
    """An image source whose images have all gone through the same resize and JPEG; the same bytes every time.

    Args:
        source: Where the encoded images are.
        size: Length of the shorter side, in pixels; the other keeps the proportion.
        quality: Of the JPEG, 1 to 95.

    Raises:
        ValueError: If size or quality is out of range.
    """

    def __init__(self, source: ImageSource, *, size: int, quality: int) -> None:
        if size < 1:
            raise ValueError(f"The size of CodecMatchedImages must be at least 1 pixel. Got {size} instead.")
        if not 1 <= quality <= 95:
            raise ValueError(f"The quality of CodecMatchedImages must be between 1 and 95. Got {quality} instead.")
        self._source, self._size, self._quality = source, size, quality
        self.modality = getattr(source, "modality", None)  # a codec makes no image real

    def read(self, key: str) -> bytes:
        """Returns the image as JPEG."""
        image = decode_image(self._source.read(key), name=key)
        scale = self._size / min(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        buffer = io.BytesIO()
        plain = image.resize((width, height), Image.Resampling.BICUBIC)
        plain.info.clear()  # a stored colour profile or comment would follow its image
        plain.save(buffer, "JPEG", quality=self._quality, subsampling=CHROMA_HALVED)
        return buffer.getvalue()
