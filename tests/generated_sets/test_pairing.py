import hashlib

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.generated_sets.pairing import PAIR_COLUMNS, is_held_out, pair_by_caption
from gmail_kedro.generated_sets.plan import plan_images
from gmail_kedro.params.generation import PairingParams

from .painting import generation_params, make_captions

HALF = PairingParams(val_fraction=0.5, seed=0)


def make_manifest(captions: pd.DataFrame, **changes: object) -> pd.DataFrame:
    return plan_images(captions, params=generation_params(**changes)).assign(status="made", reason="")


def test_each_image_meets_the_real_image_of_its_caption() -> None:
    captions = make_captions(6)
    manifest = make_manifest(captions, samples_per_caption=3).sample(frac=1, random_state=0)
    pairs = pair_by_caption(captions.sample(frac=1, random_state=1), manifest, params=HALF)
    assert tuple(pairs.columns) == PAIR_COLUMNS
    assert len(pairs) == 36
    by_id = captions.set_index("caption_id")
    for row, key in zip(pairs.itertuples(), manifest["key"], strict=True):
        source = by_id.loc[row.caption_id]
        assert (row.image_id, row.real_key, row.caption) == (source.image_id, source.image_id, source.caption)
        assert row.generated_key == key
        assert key.startswith(f"{row.caption_id}/")


@pytest.mark.reliability(15)
def test_captions_a_real_image_may_vary() -> None:
    """Test 15 of the fault tests: one real image, N captions, N varying."""
    captions = make_captions(4).drop(index=[1, 4, 5])
    pairs = pair_by_caption(captions, make_manifest(captions), params=PairingParams(val_fraction=0.5, seed=1))
    assert pairs["caption_id"].tolist() == ["cap_0_0", "cap_1_0", "cap_3_0", "cap_1_1", "cap_3_1"]


def test_the_split_is_by_real_image_and_independent_of_the_other_rows() -> None:
    captions = make_captions(200)
    params = PairingParams(val_fraction=0.25, seed=3)
    pairs = pair_by_caption(captions, make_manifest(captions), params=params)
    assert (pairs.groupby("image_id")["split"].nunique() == 1).all()
    share = (pairs.drop_duplicates("image_id")["split"] == "val").mean()
    assert 0.15 < share < 0.35
    fewer = pair_by_caption(captions, make_manifest(captions, image_count=50), params=params)
    joined = fewer.merge(pairs, on="generated_key")
    assert len(joined) == 100 and (joined["split_x"] == joined["split_y"]).all()
    other = pair_by_caption(captions, make_manifest(captions), params=PairingParams(val_fraction=0.25, seed=4))
    assert (other["split"] != pairs["split"]).any()


def test_held_out_shares_grow_with_the_fraction() -> None:
    ids = [f"img_{n}" for n in range(500)]
    chosen = [set(np.array(ids)[is_held_out(ids, val_fraction=f, seed=0)]) for f in (0.0, 0.1, 0.5, 1.0)]
    assert chosen[0] == set()
    assert chosen[0] < chosen[1] < chosen[2] < chosen[3] == set(ids)


def test_held_out_real_images_are_those_of_the_first_release() -> None:
    ids = [f"img_{n}.jpg" for n in range(300)]
    digests = [hashlib.sha256(f"3/{name}".encode()).digest()[:8] for name in ids]
    expected = [int.from_bytes(digest, "big") < 0.25 * 2**64 for digest in digests]
    assert is_held_out(ids, val_fraction=0.25, seed=3).tolist() == expected


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.0, "5 real images into train and 0"), (1.0, "0 .* and 5 into val")]
)
def test_refuses_an_empty_split(fraction: float, counts: str) -> None:
    captions = make_captions(5)
    with pytest.raises(ValueError, match=rf"val_fraction={fraction} .*{counts}"):
        pair_by_caption(captions, make_manifest(captions), params=PairingParams(val_fraction=fraction, seed=0))


def replaced(table: pd.DataFrame, row: int, column: str, value: object) -> pd.DataFrame:
    table = table.copy()
    table.loc[row, column] = value
    return table


CAPTIONS = make_captions(5)
MANIFEST = make_manifest(CAPTIONS)


@pytest.mark.parametrize(
    ("captions", "manifest", "message"),
    [
        (CAPTIONS, replaced(MANIFEST, 6, "caption_id", "ghost"), "'caption_id': 'ghost'.*is an orphan"),
        (CAPTIONS, replaced(MANIFEST, 6, "image_id", "img_0.jpg"), "'cap_1_1'.*has another image_id than"),
        (CAPTIONS, replaced(MANIFEST, 6, "prompt", "other"), "'prompt': 'other'.*another prompt than .* caption"),
        (replaced(CAPTIONS, 3, "caption", "Photograph 1"), MANIFEST, "'cap_1_1'.*another prompt"),
        (replaced(CAPTIONS, 3, "caption", None), MANIFEST, "'cap_1_1' is blank"),
        (CAPTIONS, replaced(MANIFEST, 6, "status", "failed"), "'cap_1_1'.*was not made"),
        (CAPTIONS, replaced(MANIFEST, 6, "status", np.nan), "'cap_1_1'.*was not made"),
        (
            CAPTIONS,
            pd.concat([MANIFEST, MANIFEST.iloc[[6]]]),
            "1 rows .*'cap_1_1'.*repeats the caption_id and sample_index",
        ),
        (pd.concat([CAPTIONS, CAPTIONS.iloc[[3]]]), MANIFEST, "'cap_1_1' occurs more than once"),
        (CAPTIONS, MANIFEST.iloc[:0], "manifest is empty"),
        (CAPTIONS.iloc[:0], MANIFEST, "captions table is empty"),
        (CAPTIONS, MANIFEST.drop(columns=["prompt"]), r"manifest lacks the columns \['prompt'\]"),
    ],
)
@pytest.mark.reliability(15)
def test_refuses_what_does_not_fit_and_shows_the_row(
    captions: pd.DataFrame, manifest: pd.DataFrame, message: str
) -> None:
    """Test 15 of the fault tests: an orphan, a wrong real image or caption, a pair twice, an image not made."""
    with pytest.raises(ValueError, match=message):
        pair_by_caption(captions, manifest, params=HALF)


@pytest.mark.reliability(15)
def test_real_images_of_the_held_out_splits_never_train() -> None:
    captions = make_captions(5)
    leaking = replaced(captions, 11, "image_id", "img_2.jpg")  # the real test image is a training one, too
    with pytest.raises(ValueError, match="pairs show .*'cap_2_0'.*one of its test split"):
        pair_by_caption(leaking, make_manifest(captions), params=HALF)


def test_quarantined_images_are_counted_by_reason_and_never_paired(caplog: pytest.LogCaptureFixture) -> None:
    manifest = MANIFEST.copy()
    manifest.loc[[0, 1, 2], "status"] = "quarantined"
    manifest.loc[[0, 1], "reason"] = "all black"
    pairs = pair_by_caption(CAPTIONS, manifest, params=HALF)
    assert pairs["generated_key"].tolist() == manifest["key"].tolist()[3:]
    assert "2 generated images are quarantined (all black)" in caplog.text
    assert "1 generated images are quarantined (no reason given)" in caplog.text
    with pytest.raises(ValueError, match="holds quarantined images alone"):
        pair_by_caption(CAPTIONS, manifest.assign(status="quarantined"), params=HALF)


SHARED = generation_params(dedupe_prompts=True, samples_per_caption=2)


def make_shared() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Captions of six real images, the second caption the same for all of them, white space aside."""
    captions = make_captions(6)
    same = captions["caption_id"].str.endswith("_1")
    captions.loc[same, "caption"] = ["a  cat", "a cat", "a\tcat", "a cat ", "a cat", "a cat"]
    return captions, plan_images(captions, params=SHARED).assign(status="made", reason="")


def test_a_shared_image_meets_every_real_image_that_has_its_caption() -> None:
    captions, manifest = make_shared()
    assert len(manifest) == 14
    pairs = pair_by_caption(captions, manifest, params=HALF, generation=SHARED)
    by_id = captions.set_index("caption_id")
    assert len(pairs) == 24 and not pairs.duplicated(["caption_id", "generated_key"]).any()
    prompts = manifest.set_index("key")["prompt"]
    for row in pairs.itertuples():
        assert (row.image_id, row.caption) == tuple(by_id.loc[row.caption_id, ["image_id", "caption"]])
        assert " ".join(prompts[row.generated_key].split()) == " ".join(row.caption.split())
    shared = pairs[pairs["generated_key"] == "cap_0_1/1"]
    assert shared["image_id"].tolist() == [f"img_{n}.jpg" for n in range(6)]
    assert shared["caption"].tolist() == captions["caption"][captions["caption_id"].str.endswith("_1")].tolist()


def test_a_set_whose_prompts_were_not_shared_is_refused_where_they_should_be() -> None:
    captions, _ = make_shared()
    apart = make_manifest(captions, samples_per_caption=2)
    assert len(pair_by_caption(captions, apart, params=HALF, generation=generation_params())) == 24
    with pytest.raises(ValueError, match="'cap_1_1'.*another caption's image stands for"):
        pair_by_caption(captions, apart, params=HALF, generation=SHARED)


@pytest.mark.reliability(15)
def test_a_row_is_refused_in_whichever_block_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    captions = make_captions(40)
    manifest = make_manifest(captions)
    monkeypatch.setattr("gmail_kedro.generated_sets.block_tables.BLOCK_ROWS", 7)
    whole = pair_by_caption(captions, manifest, params=HALF)
    assert whole["generated_key"].tolist() == manifest["key"].tolist()
    twice = pd.concat([manifest, manifest.iloc[[11]]])
    with pytest.raises(ValueError, match="1 rows .* first 81 .*'cap_11_0'.*repeats"):
        pair_by_caption(captions, twice, params=HALF)
