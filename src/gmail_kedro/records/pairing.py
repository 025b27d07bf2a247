"""Pairs: each generated picture with the photograph whose caption it was made from."""

import hashlib
from typing import Any

import pandas as pd

from gmail_kedro.params import PairingParams
from gmail_kedro.records.manifest import MADE

CAPTION_COLUMNS = ("caption_id", "image_id", "caption", "split")
MANIFEST_COLUMNS = ("caption_id", "image_id", "sample_index", "prompt", "key", "status")
PAIR_COLUMNS = ("caption_id", "image_id", "caption", "real_key", "generated_key", "split")
REMAKE = "Make plan, pictures and manifest from the same captions: kedro run --pipeline=generation"


def pair_by_caption(captions: pd.DataFrame, manifest: pd.DataFrame, *, params: PairingParams) -> pd.DataFrame:
    """Returns one row a generated picture, joined with its photograph through the caption.

    Args:
        captions: One row a caption: ``caption_id``, ``image_id``, ``caption``, ``split``.
        manifest: The pictures that were made, as ``build_manifest`` returns them.
        params: Share of the photographs held out, and the seed of the choice.

    Returns:
        ``caption_id``, ``image_id``, ``caption``, ``real_key`` (the image id), ``generated_key`` and ``split``
        (``train`` or ``val``; all pairs of one photograph share it), in the manifest's order.

    Raises:
        ValueError: If a table is empty, lacks a column or repeats a row; if a picture was not made, its caption is
            unknown, or its photograph or prompt is not the caption's (the message shows the row); or if one of the
            two splits would have no photograph.
    """
    _check_table("captions table", captions, CAPTION_COLUMNS, unique=["caption_id"])
    _check_table("manifest", manifest, MANIFEST_COLUMNS, unique=["caption_id", "sample_index"])
    _refuse(manifest, manifest["status"] != MADE, f"was not made (its status is not {MADE!r})")
    known = captions.set_index("caption_id")
    _refuse(manifest, ~manifest["caption_id"].isin(known.index), "is an orphan: the captions have no such caption_id")
    rows = known.loc[manifest["caption_id"]]
    for column, source in (("image_id", "image_id"), ("prompt", "caption")):
        differs = manifest[column].to_numpy(dtype=object) != rows[source].to_numpy(dtype=object)
        differs = pd.Series(differs, manifest.index)
        _refuse(manifest, differs, f"has another {column} than the captions table's {source}")
    pairs = pd.DataFrame(
        {
            "caption_id": manifest["caption_id"].to_numpy(),
            "image_id": rows["image_id"].to_numpy(),
            "caption": rows["caption"].to_numpy(),
            "real_key": rows["image_id"].to_numpy(),
            "generated_key": manifest["key"].to_numpy(),
        }
    )
    pairs["split"] = _split(pairs["image_id"], params)
    return pairs[list(PAIR_COLUMNS)]


def check_leakage(pairs: pd.DataFrame, captions: pd.DataFrame) -> None:
    """Refuses pairs of photographs that the corpus keeps for validation or test.

    Args:
        pairs: As ``pair_by_caption`` returns them.
        captions: The captions of the whole corpus.

    Raises:
        ValueError: If a photograph of the pairs is in the corpus's val or test split; shows the pair.
    """
    held_out = captions.loc[captions["split"] != "train"].drop_duplicates("image_id").set_index("image_id")["split"]
    leaked = pairs[pairs["image_id"].isin(held_out.index)]
    if len(leaked):
        row = leaked.iloc[0]
        raise ValueError(
            f"{len(leaked)} pairs show photographs the corpus keeps out of training. The first, {row.to_dict()}, shows "
            f"one of its {held_out[row['image_id']]} split. Make the corpus's splits disjoint by image_id."
        )


def is_held_out(image_id: str, *, val_fraction: float, seed: int) -> bool:
    """Says whether a photograph's pairs are for validation: a hash, so it does not depend on the other rows.

    Args:
        image_id: The photograph.
        val_fraction: Share of all photographs for which the answer is yes, in [0, 1].
        seed: Another seed chooses others.
    """
    digest = hashlib.sha256(f"{seed}/{image_id}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") < val_fraction * 2**64


def _split(image_ids: "pd.Series[str]", params: PairingParams) -> "pd.Series[str]":
    choice = {
        image_id: "val" if is_held_out(image_id, val_fraction=params.val_fraction, seed=params.seed) else "train"
        for image_id in image_ids.unique().tolist()
    }
    counts = {name: list(choice.values()).count(name) for name in ("train", "val")}
    if 0 in counts.values():
        raise ValueError(
            f"pairing.val_fraction={params.val_fraction} and pairing.seed={params.seed} put {counts['train']} "
            f"photographs into train and {counts['val']} into val; both need one at least. Change the fraction or the "
            "seed, or generate for more photographs (generation.image_count)."
        )
    return image_ids.map(choice)


def _check_table(name: str, table: pd.DataFrame, columns: tuple[str, ...], *, unique: list[str]) -> None:
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"The {name} lacks the columns {missing}; expected {list(columns)}.")
    if table.empty:
        raise ValueError(f"The {name} is empty; there is nothing to pair. {REMAKE}")
    _refuse(table, table.duplicated(unique, keep="first"), f"repeats the {' and '.join(unique)} of a row before it")


def _refuse(table: pd.DataFrame, bad: "pd.Series[bool]", what: str) -> None:
    if bad.any():
        row: dict[str, Any] = table[bad.to_numpy()].iloc[0].to_dict()
        raise ValueError(f"{int(bad.sum())} rows cannot be paired. The first, {row}, {what}. {REMAKE}")
