"""Compares a picture made again with the stored one."""

from dataclasses import dataclass

import numpy as np

from gmail_kedro.images.decoding import decode_image

# Another device or precision moves a picture by less: bfloat16 in place of float32, 0.9. Another seed moves it by tens.
CLOSE_MEAN = 2.0


@dataclass(frozen=True)
class Comparison:
    """How far a picture made again is from the stored one.

    Attributes:
        identical: Whether both files have the same bytes.
        max_difference: Largest difference of a colour value, 0 to 255.
        mean_difference: Mean difference of the colour values, 0 to 255.
    """

    identical: bool
    max_difference: int
    mean_difference: float

    @property
    def verdict(self) -> str:
        """``identical``, ``close`` (the same picture from other arithmetic) or ``different``."""
        if self.identical:
            return "identical"
        return "close" if self.mean_difference <= CLOSE_MEAN else "different"


def compare_pictures(stored: bytes, made: bytes) -> Comparison:
    """Returns how far two encoded pictures are from each other.

    Args:
        stored: The one in the set.
        made: The one made again.

    Raises:
        ValueError: If one cannot be decoded, or their sizes differ.
    """
    if stored == made:
        return Comparison(identical=True, max_difference=0, mean_difference=0.0)
    first, second = decode_image(stored, name="the stored picture"), decode_image(made, name="the picture made again")
    if first.size != second.size:
        raise ValueError(f"The stored picture is {first.size} pixels, the one made again {second.size}.")
    difference = np.abs(np.asarray(first, dtype=np.int16) - np.asarray(second, dtype=np.int16))
    return Comparison(False, int(difference.max()), float(difference.mean()))


def changed_files(then: dict[str, str], now: dict[str, str]) -> list[str]:
    """Returns what became of files between two listings, one line each; nothing when both are equal.

    Args:
        then: The hash of each file, earlier.
        now: The same, later.
    """
    lines = [f"{name} is gone" for name in then if name not in now]
    lines += [f"{name} is new" for name in now if name not in then]
    lines += [
        f"{name} differs: {then[name][:12]}… then, {now[name][:12]}… now" for name in then if _differs(then, now, name)
    ]
    return lines


def _differs(then: dict[str, str], now: dict[str, str], name: str) -> bool:
    return name in now and then[name] != now[name]
