"""Makes one image of a set again, and says how far it is from the one in the set.

Its seed is in the manifest, so that neither the rest of the set nor the batch that it was made in is needed.
"""

from dataclasses import dataclass

import numpy as np

from gmail_kedro.generated_sets.image_maker import ImageMaker
from gmail_kedro.generated_sets.set_folder import GeneratedSet
from gmail_kedro.images.decoding import decode_image

# Another device or precision moves an image by less: bfloat16 in place of float32, 0.9. Another seed moves it by tens.
CLOSE_MEAN = 2.0


@dataclass(frozen=True)
class Difference:
    """How far two images are from each other."""

    identical: bool  # whether both files have the same bytes
    max_difference: int  # largest difference of a colour value, 0 to 255
    mean_difference: float  # mean difference of the colour values, 0 to 255

    @property
    def verdict(self) -> str:
        """``identical``, ``close`` (the same image from other arithmetic) or ``different``."""
        if self.identical:
            return "identical"
        return "close" if self.mean_difference <= CLOSE_MEAN else "different"


def regenerate_image(generated_set: GeneratedSet, key: str, maker: ImageMaker) -> Difference:
    """Makes an image again and returns how far it is from the set's.

    Raises:
        ValueError: If the set has no such image, or one of the two is not there.
    """
    row, stored = generated_set.row(key), generated_set.read(key)
    # Retry 0: the seed of the manifest is already that of the retry that gave the image.
    again = maker.make(row, 0)
    if not (stored and again.jpeg):
        raise ValueError(f"There is nothing to compare: {again.facts.get('detail', row['reason'])}.")
    return compare_images(stored, again.jpeg)


def compare_images(before: bytes, after: bytes) -> Difference:
    """Returns how far an encoded image made again is from the one of the set.

    Raises:
        ValueError: If one cannot be decoded, or their sizes differ.
    """
    if before == after:
        return Difference(identical=True, max_difference=0, mean_difference=0.0)
    first, second = decode_image(before, name="the set's image"), decode_image(after, name="the image made again")
    if first.size != second.size:
        raise ValueError(f"The set's image is {first.size} pixels, the one made again {second.size}.")
    difference = np.abs(np.asarray(first, dtype=np.int16) - np.asarray(second, dtype=np.int16))
    return Difference(False, int(difference.max()), float(difference.mean()))


def changed_files(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """Returns what became of files between two listings of hashes by name, one line each."""
    lines = [f"{name} is gone" for name in then if name not in now]
    lines += [f"{name} is new" for name in now if name not in then]
    changed = [name for name in then if name in now and then[name] != now[name]]
    return lines + [f"{name} differs: {then[name][:12]}… then, {now[name][:12]}… now" for name in changed]
