"""Which part of a public corpus is meant, by name, and how many images and captions that must be.

"COCO" names at least five divisions, and numbers on two of them are not comparable: so a protocol has a name, and its
published counts are held against the files.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from gmail_kedro.interfaces import EVALUATION_SPLITS, SPLITS

TRAIN_SPLITS = ("train", "restval")  # Karpathy's restval is what of COCO's val he left to train on
FEWEST = 2  # images a split: of one alone every retrieval is right, and no value has a spread


class Count(NamedTuple):
    """How many images and captions a split has."""

    images: int
    captions: int


@dataclass(frozen=True)
class CorpusProtocol:
    """How the entries of a corpus are divided, and what must come out."""

    split: str | None = None  # of all entries; None where the files or the rules below divide them
    train_splits: tuple[str, ...] = TRAIN_SPLITS  # what makes up train; of these two, what is not named is left out
    first_to_test: int = 0  # so many images, from the start of the file, are test; the others train
    held_out: Mapping[str, float] = field(default_factory=dict)  # shares of val and test; the others are train
    captions_per_image: int | None = None  # the first so many of each image are kept; None keeps all
    expected: Mapping[str, Count] = field(default_factory=dict)  # by split; one that is not named is not counted
    home: str = ""  # where the files come from, for messages

    def __post_init__(self) -> None:
        if self.split is not None and self.split not in SPLITS:
            raise ValueError(f"The split of a protocol must be one of {list(SPLITS)}. Got {self.split!r} instead.")
        shares = self.held_out.values()
        if not set(self.held_out) <= set(EVALUATION_SPLITS) or any(not 0 < share < 1 for share in shares):
            raise ValueError(
                f"held_out must give val, test or both a share in (0, 1). Got {dict(self.held_out)} instead."
            )
        if sum(shares) >= 1:
            raise ValueError(f"held_out must leave images to train on. Got {dict(self.held_out)}. Lower the shares.")
        if sum(bool(rule) for rule in (self.split, self.first_to_test, self.held_out)) > 1:
            raise ValueError("A protocol has one of split, first_to_test and held_out. Got several. Keep one.")
        if self.captions_per_image is not None and self.captions_per_image < 1:
            raise ValueError(f"captions_per_image must be 1 or more, or null. Got {self.captions_per_image} instead.")


_COCO_2014 = "cocodataset.org (annotations_trainval2014.zip, train2014.zip, val2014.zip)"
_COCO_2017 = "cocodataset.org (annotations_trainval2017.zip, train2017.zip, val2017.zip)"
_KARPATHY = "Karpathy's caption_datasets.zip"
_FLICKR30K = "the Flickr30k request form at shannon.cs.illinois.edu/DenotationGraph"

PROTOCOLS: Mapping[str, CorpusProtocol] = MappingProxyType(
    {
        "coco_karpathy": CorpusProtocol(
            expected={"train": Count(113_287, 566_747), "val": Count(5_000, 25_010), "test": Count(5_000, 25_010)},
            home=f"{_KARPATHY} (dataset_coco.json) and {_COCO_2014}",
        ),
        "coco_train2014": CorpusProtocol(split="train", expected={"train": Count(82_783, 414_113)}, home=_COCO_2014),
        "coco_val2014": CorpusProtocol(split="test", expected={"test": Count(40_504, 202_654)}, home=_COCO_2014),
        "coco_train2017": CorpusProtocol(split="train", expected={"train": Count(118_287, 591_753)}, home=_COCO_2017),
        "coco_val2017": CorpusProtocol(
            split="test", captions_per_image=5, expected={"test": Count(5_000, 25_000)}, home=_COCO_2017
        ),
        "flickr8k_karpathy": CorpusProtocol(
            expected={"train": Count(6_000, 30_000), "val": Count(1_000, 5_000), "test": Count(1_000, 5_000)},
            home=f"{_KARPATHY} (dataset_flickr8k.json)",
        ),
        "flickr30k_karpathy": CorpusProtocol(
            expected={"train": Count(29_000, 145_000), "val": Count(1_014, 5_070), "test": Count(1_000, 5_000)},
            home=f"{_KARPATHY} (dataset_flickr30k.json) and {_FLICKR30K}",
        ),
        "flickr30k_whole": CorpusProtocol(split="test", expected={"test": Count(31_783, 158_915)}, home=_FLICKR30K),
        "cc3m": CorpusProtocol(
            split="train", home="ai.google.com/research/ConceptualCaptions, or the hub's pixparse/cc3m-wds"
        ),
        "cc12m": CorpusProtocol(
            split="train", home="github.com/google-research-datasets/conceptual-12m, or the hub's pixparse/cc12m-wds"
        ),
        "sharegpt4v_1k": CorpusProtocol(
            first_to_test=1_000,
            expected={"test": Count(1_000, 1_000)},
            home="the hub's Lin-Chen/ShareGPT4V (share-captioner_coco_lcs_sam_1246k_1107.json), whose images are "
            f"LLaVA-Pretrain, SAM and {_COCO_2017}",
        ),
    }
)


def find_protocol(protocol: str | Mapping[str, Any] | None) -> CorpusProtocol:
    """Returns a protocol by its name in ``PROTOCOLS``, or from its fields as a catalog entry writes them."""
    if protocol is None:
        return CorpusProtocol()
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise ValueError(
                f"The protocol {protocol!r} is unknown. Choose one of {sorted(PROTOCOLS)}, or give its fields."
            )
        return PROTOCOLS[protocol]
    known = [field.name for field in fields(CorpusProtocol)]
    unknown = sorted(set(protocol) - set(known))
    if unknown:
        raise ValueError(f"The fields {unknown} of a protocol are unknown. The known ones are {known}.")
    values = dict(protocol)
    if "train_splits" in values:
        values["train_splits"] = check_train_splits(values["train_splits"])
    if "expected" in values:
        values["expected"] = read_expected(values["expected"])
    return CorpusProtocol(**values)


def read_expected(expected: Mapping[str, Any]) -> dict[str, Count]:
    """Returns counts as a catalog entry writes them: ``{train: {images: 113287, captions: 566747}}``."""
    if isinstance(expected, Mapping) and set(expected) <= set(SPLITS):
        counts = [set(count) if isinstance(count, Mapping) else set() for count in expected.values()]
        if all(names == {"images", "captions"} for names in counts):
            return {split: Count(**count) for split, count in expected.items()}
    raise ValueError(
        f"expected must give counts by split, such as {{train: {{images: 113287, captions: 566747}}}}, or be null. "
        f"Got {expected!r} instead."
    )


def check_train_splits(train_splits: Any) -> tuple[str, ...]:
    """Returns the splits of a file that make up ``train``; refuses val and test among them."""
    is_usable = not isinstance(train_splits, str) and len(train_splits) > 0
    if not is_usable or set(train_splits) & set(EVALUATION_SPLITS):
        raise ValueError(
            f"train_splits must be a list of splits without {list(EVALUATION_SPLITS)}. "
            f"Got {train_splits!r} instead. The usual ones are {list(TRAIN_SPLITS)}."
        )
    return tuple(train_splits)


def apply_protocol(captions: pd.DataFrame, protocol: CorpusProtocol, *, name: str) -> pd.DataFrame:
    """Returns the captions a protocol means, with ``split`` as train, val or test.

    Args:
        captions: As in ``CaptionTable``.
        protocol: What is meant.
        name: What messages call the corpus.

    Raises:
        ValueError: If the captions have no split and the protocol gives none, or an unknown one, or what is held out
            leaves a split with fewer than ``FEWEST`` images.
    """
    if protocol.captions_per_image is not None:
        captions = captions[captions.groupby("image_id", sort=False).cumcount() < protocol.captions_per_image]
    if protocol.split is not None:
        return captions.assign(split=protocol.split)
    if protocol.first_to_test:
        # By the position in the file where there is one: entries that are left out move no image into the test.
        has_position = "position" in captions
        position = captions["position"].to_numpy() if has_position else pd.factorize(captions["image_id"])[0]
        return _with_split(captions, np.where(position < protocol.first_to_test, "test", "train"))
    if protocol.held_out:
        return _hold_out(captions, protocol.held_out, name)
    if "split" not in captions:
        raise ValueError(
            f"The files of the corpus {name!r} do not divide it. Say how in its catalog entry: protocol: "
            "{held_out: {val: 0.1, test: 0.1}}, or protocol: {split: train}."
        )
    return _map_splits(captions, protocol, name)


def check_counts(captions: pd.DataFrame, expected: Mapping[str, Count], *, name: str, left_out: int = 0) -> None:
    """Refuses a corpus that is not as large as its protocol says.

    Args:
        captions: ``image_id`` and ``split``.
        expected: Counts by split.
        name: What the message calls the corpus.
        left_out: Captions that were left out and counted: so many may be missing, but no image.

    """
    for split, count in expected.items():
        rows = captions.loc[captions["split"] == split, "image_id"]
        found = Count(rows.nunique(), len(rows))
        if found.images != count.images or not count.captions - left_out <= found.captions <= count.captions:
            raise ValueError(
                f"The split {split!r} of the corpus {name!r} must have {count.images} images with {count.captions} "
                f"captions. Got {found.images} with {found.captions} instead. Complete the files, correct the "
                "protocol, or, for a part of the corpus, set expected: null in its catalog entry."
            )


def _map_splits(captions: pd.DataFrame, protocol: CorpusProtocol, name: str) -> pd.DataFrame:
    meaning = {split: "train" for split in protocol.train_splits} | {split: split for split in EVALUATION_SPLITS}
    known = dict.fromkeys((*TRAIN_SPLITS, *meaning))
    found = captions["split"].unique().tolist()
    unknown = [split for split in found if split not in known]
    if unknown:
        raise ValueError(
            f"The splits of the corpus {name!r} must be among {list(known)}. Got {unknown} too. Correct the file, or "
            "name its training splits: protocol: {train_splits: [...]}."
        )
    captions = captions[captions["split"].isin(list(meaning))]
    if captions.empty:
        raise ValueError(f"The corpus {name!r} has only the splits {found}; none is val, test or a training split.")
    return captions.assign(split=captions["split"].map(meaning).astype("str"))


def _hold_out(captions: pd.DataFrame, held_out: Mapping[str, float], name: str) -> pd.DataFrame:
    # By a hash of the id: images that are added to a corpus move no other from one split to another.
    codes, unique = pd.factorize(captions["image_id"])
    digests = (hashlib.sha256(f"held out/{image_id}".encode()).digest()[:8] for image_id in unique)
    place = np.fromiter((int.from_bytes(digest, "big") / 2**64 for digest in digests), np.float64, len(unique))
    edge = 0.0
    chosen = np.full(len(place), "train", dtype="<U5")
    for split, share in sorted(held_out.items()):
        chosen[(place >= edge) & (place < edge + share)] = split
        edge += share
    counts = {split: int((chosen == split).sum()) for split in ("train", *held_out)}
    few = [split for split, count in counts.items() if count < FEWEST]
    if few and len(unique):
        raise ValueError(
            f"The split {few[0]!r} of the corpus {name!r} has {counts[few[0]]} of {len(unique)} images "
            f"(all: {counts}), and a run needs {FEWEST} at least. Its protocol holds out "
            f"{dict(held_out)} by a hash of the images' names. {_remedy(place, held_out)}, add images, "
            "or name the splits yourself: a column split, folders called train and val."
        )
    return _with_split(captions, chosen[codes])


def _remedy(place: np.ndarray, held_out: Mapping[str, float]) -> str:
    """Returns another division: where one split is held out, the smallest share in percents that is enough."""
    if len(held_out) == 1 and len(place) >= 2 * FEWEST:
        (split,), share = held_out, math.floor(np.sort(place)[FEWEST - 1] * 100 + 1) / 100
        if (place >= share).sum() >= FEWEST:
            return f"Set protocol: {{held_out: {{{split}: {share}}}}}"
    return "Change the shares"


def _with_split(captions: pd.DataFrame, splits: np.ndarray) -> pd.DataFrame:
    return captions.assign(split=pd.Series(splits, captions.index, dtype="str"))
