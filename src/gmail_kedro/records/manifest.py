"""The manifest: which pictures a finished set really has, where they lie and what made them."""

from typing import Any, Protocol

import pandas as pd
from tqdm import tqdm

from gmail_kedro.interfaces import GeneratedImages
from gmail_kedro.records.plan import hash_plan
from gmail_kedro.records.shards import jpeg_sha256
from gmail_kedro.records.stored import Location, SetDescription

MADE = "made"
RECORDED_SETTINGS = ("generator", "revision", "steps", "guidance")
REMAKE = "Make the set anew: kedro run --pipeline=generation"


class DescribedImages(GeneratedImages, Protocol):
    """A generated set that knows what it consists of and where its pictures lie."""

    description: SetDescription

    def locate(self, key: str) -> Location:
        """Returns where a picture lies."""
        ...


def build_manifest(plan: pd.DataFrame, images: DescribedImages) -> pd.DataFrame:
    """Returns the plan with what became of each row; every picture is read once and hashed.

    Args:
        plan: The pictures that were asked for, as ``plan_images`` returns them.
        images: The finished set; its own description says which generator and settings made it.

    Returns:
        The plan's columns, then ``shard`` (file name), ``offset`` and ``size_bytes`` of the JPEG in it, ``sha256``,
        ``generator``, ``revision``, ``steps``, ``guidance``, ``status`` (``made``) and ``reason``.

    Raises:
        ValueError: If the set was made from another plan, or lacks or exceeds the plan's pictures.
    """
    settings: dict[str, Any] = dict(images.description.settings)
    if hash_plan(plan, settings) != images.description.fingerprint:
        raise ValueError(f"The generated set was made from another plan than the one given. {REMAKE}")
    _check_keys(plan, images)
    places = [images.locate(key) for key in plan["key"].tolist()]
    hashes = [jpeg_sha256(images.read(key)) for key in tqdm(plan["key"].tolist(), unit="image", disable=None)]
    made = {
        "shard": [f"{place.shard_id}.tar" for place in places],
        "offset": [place.offset for place in places],
        "size_bytes": [place.size for place in places],
        "sha256": hashes,
    }
    return plan.assign(**made, **{name: settings[name] for name in RECORDED_SETTINGS}, status=MADE, reason="")


def _check_keys(plan: pd.DataFrame, images: GeneratedImages) -> None:
    planned, stored = set(plan["key"].tolist()), set(images.keys())
    for found, words in ((planned - stored, "lacks"), (stored - planned, "has, beyond the plan,")):
        if found:
            raise ValueError(f"The generated set {words} {len(found)} pictures (first: {min(found)!r}). {REMAKE}")
