"""The manifest: which images a complete set really has, where they lie and what made them."""

from typing import Any

import pandas as pd
from tqdm import tqdm

from gmail_kedro.generated_sets.plan import hash_plan
from gmail_kedro.generated_sets.shard_format import jpeg_sha256
from gmail_kedro.generated_sets.stored_images import ShardImages

MADE = "made"
QUARANTINED = "quarantined"
RECORDED_SETTINGS = ("generator", "revision", "steps", "guidance")
REMAKE = "Make the set anew: kedro run --pipeline=generation"


def build_manifest(plan: pd.DataFrame, images: ShardImages) -> pd.DataFrame:
    """Returns the plan with what became of each row; every image is read once and hashed.

    Args:
        plan: The images that were asked for, as ``plan_images`` returns them.
        images: The complete set; its own description says which generator and settings made it.

    Returns:
        The plan's columns, then ``shard`` (file name), ``offset`` and ``size_bytes`` of the JPEG in it, ``sha256``,
        ``generator``, ``revision``, ``steps``, ``guidance``, ``status`` (``made`` or ``quarantined``) and ``reason``
        (why it is quarantined; empty for an image that was made). ``seed`` is the one the image was made with, which
        for a retry is not the plan's. A quarantined image's ``shard`` is in ``quarantine/``; where none was made
        ``size_bytes`` is 0.

    Raises:
        ValueError: If the set was made from another plan, or lacks or exceeds the plan's images.
    """
    settings: dict[str, Any] = dict(images.description.settings)
    if hash_plan(plan, settings) != images.description.fingerprint:
        raise ValueError(f"The generated set was made from another plan than the one given. {REMAKE}")
    # The fingerprint is what was asked for; only the keys say what is there.
    _check_keys(plan, images)
    keys, refused = plan["key"].tolist(), images.quarantined
    places = [refused[key].place if key in refused else images.locate(key) for key in keys]
    read = {True: images.read_quarantined, False: images.read}
    made = {
        "shard": [f"{place.shard_id}.tar" for place in places],
        "offset": [place.offset for place in places],
        "size_bytes": [place.size for place in places],
        "sha256": [jpeg_sha256(read[key in refused](key)) for key in tqdm(keys, unit="image", disable=None)],
        **{name: settings[name] for name in RECORDED_SETTINGS},
        "status": [QUARANTINED if key in refused else MADE for key in keys],
        "reason": [refused[key].reason if key in refused else "" for key in keys],
    }
    # Without retries every seed is the plan's, and the facts of all images need not be read.
    if images.description.quality.get("retries"):
        seeds = images.seeds()
        plan = plan.assign(seed=[seeds[key] for key in keys])
    return plan.assign(**made)


def _check_keys(plan: pd.DataFrame, images: ShardImages) -> None:
    planned, there = set(plan["key"].tolist()), {*images.keys(), *images.quarantined}
    for found, words in ((planned - there, "lacks"), (there - planned, "has, beyond the plan,")):
        if found:
            raise ValueError(f"The generated set {words} {len(found)} images (first: {min(found)!r}). {REMAKE}")
