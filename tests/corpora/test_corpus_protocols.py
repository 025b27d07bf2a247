"""Protocols divide a corpus and hold it to its counts."""

import re

import pandas as pd
import pytest

from gmail_kedro.corpora.corpus_protocols import (
    PROTOCOLS,
    SPLITS,
    CorpusProtocol,
    Count,
    apply_protocol,
    check_counts,
    find_protocol,
    read_expected,
)


def _captions(image_ids, **columns):
    ids = [str(number) for number in range(len(image_ids))]
    return pd.DataFrame({"caption_id": ids, "image_id": list(image_ids), "caption": "x", **columns})


def test_published_counts():
    """As the corpora's own papers and files have them; COCO's two halves must add up."""
    assert PROTOCOLS["coco_karpathy"].expected["train"] == (113_287, 566_747)
    assert PROTOCOLS["coco_train2014"].expected["train"] == (82_783, 414_113)
    assert PROTOCOLS["coco_val2017"].expected["test"] == (5_000, 25_000)
    assert PROTOCOLS["coco_val2017"].captions_per_image == 5
    assert PROTOCOLS["flickr30k_whole"].expected["test"] == (31_783, 158_915)
    images = [count.images for count in PROTOCOLS["flickr30k_karpathy"].expected.values()]
    assert images == [29_000, 1_014, 1_000]
    karpathy = PROTOCOLS["coco_karpathy"].expected.values()
    halves = (PROTOCOLS["coco_train2014"].expected["train"], PROTOCOLS["coco_val2014"].expected["test"])
    for part in ("images", "captions"):
        assert sum(getattr(count, part) for count in karpathy) == sum(getattr(count, part) for count in halves)


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_is_usable(name):
    protocol = find_protocol(name)
    assert set(protocol.expected) <= set(SPLITS)
    assert protocol.home


def test_one_split_for_all():
    found = apply_protocol(_captions("aab", split=["train", "val", "odd"]), CorpusProtocol(split="test"), name="x")
    assert found["split"].tolist() == ["test"] * 3


def test_the_first_images_are_test():
    found = apply_protocol(_captions("aabbc"), CorpusProtocol(first_to_test=2), name="x")
    assert found["split"].tolist() == ["test", "test", "test", "test", "train"]


def test_the_first_captions_of_each_image_are_kept():
    found = apply_protocol(_captions("abaab"), CorpusProtocol(split="test", captions_per_image=2), name="x")
    assert found["caption_id"].tolist() == ["0", "1", "2", "4"]


def test_held_out_shares_depend_on_the_image_alone():
    images = [str(number // 2) for number in range(8_000)]
    protocol = CorpusProtocol(held_out={"val": 0.1, "test": 0.2})
    found = apply_protocol(_captions(images), protocol, name="x")
    assert found.groupby("image_id")["split"].nunique().max() == 1
    shares = found["split"].value_counts(normalize=True)
    assert shares["val"] == pytest.approx(0.1, abs=0.02)
    assert shares["test"] == pytest.approx(0.2, abs=0.02)
    part = apply_protocol(_captions(images[4_000:][::-1]), protocol, name="x").groupby("image_id")["split"].first()
    assert part.equals(found.groupby("image_id")["split"].first()[part.index])


def test_a_split_too_small_is_refused_with_a_share_that_is_enough():
    six = _captions([f"shot_{number}.jpg" for number in range(6)])
    with pytest.raises(ValueError, match=r"split 'val' of the corpus 'own' has 0 of 6 images .*\{'val': 0.1\}") as told:
        apply_protocol(six, CorpusProtocol(held_out={"val": 0.1}), name="own")
    (share,) = re.findall(r"Set protocol: \{held_out: \{val: (0\.\d+)\}\}", str(told.value))
    found = apply_protocol(six, CorpusProtocol(held_out={"val": float(share)}), name="own")
    assert found["split"].value_counts().to_dict() == {"train": 4, "val": 2}
    with pytest.raises(ValueError, match=r"split 'train' .*Change the shares, add images, or name the splits"):
        apply_protocol(six, CorpusProtocol(held_out={"val": 0.98, "test": 0.01}), name="own")


def test_splits_of_the_files():
    captions = _captions("abcde", split=["train", "restval", "extra", "val", "test"])
    some = CorpusProtocol(train_splits=("extra",))
    assert apply_protocol(captions, some, name="x")["split"].tolist() == ["train", "val", "test"]
    with pytest.raises(ValueError, match=r"splits of the corpus 'x' must be among .*Got \['extra'\] too.*train_splits"):
        apply_protocol(captions, CorpusProtocol(), name="x")
    with pytest.raises(ValueError, match=r"has only the splits \['restval'\]"):
        apply_protocol(captions.iloc[1:2], CorpusProtocol(train_splits=("train",)), name="x")
    with pytest.raises(ValueError, match="'x' do not divide it.*held_out.*split: train"):
        apply_protocol(_captions("ab"), CorpusProtocol(), name="x")


def test_counts_are_held_to():
    captions = _captions("aab", split=["train", "train", "test"])
    check_counts(captions, {"train": Count(1, 2)}, name="x")
    check_counts(captions, {}, name="x")
    with pytest.raises(ValueError, match="'train' of .* must have 1 images with 3 captions. Got 1 with 2"):
        check_counts(captions, {"train": Count(1, 3)}, name="x")
    with pytest.raises(ValueError, match="'val' .* must have 5 images with 25 .*Got 0 with 0.*expected: null"):
        check_counts(captions, {"val": Count(5, 25)}, name="x")


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        ("coco2014", r"protocol 'coco2014' is unknown. Choose one of \['cc12m', 'cc3m', 'coco_karpathy'"),
        ({"splits": "train"}, r"fields \['splits'\] of a protocol are unknown. The known ones are \['split', "),
        ({"split": "dev"}, r"must be one of \['train', 'val', 'test'\]. Got 'dev'"),
        ({"held_out": {"train": 0.5}}, "held_out must give val, test or both a share"),
        ({"held_out": {"val": 1.5}}, "a share in .0, 1."),
        ({"held_out": {"val": 0.5, "test": 0.5}}, "must leave images to train on"),
        ({"held_out": {"val": 0.5}, "split": "train"}, "has one of split, first_to_test and held_out"),
        ({"captions_per_image": 0}, "captions_per_image must be 1 or more"),
        ({"train_splits": ["test"]}, "must be a list of splits without"),
        ({"expected": {"train": 5}}, "expected must give counts by split"),
    ],
)
def test_a_wrong_protocol_is_refused(protocol, message):
    with pytest.raises(ValueError, match=message):
        find_protocol(protocol)


@pytest.mark.parametrize("expected", [{"images": 5, "captions": 25}, {"train": {"images": 5}}, [1], {"dev": {}}])
def test_wrong_expectations_are_refused(expected):
    with pytest.raises(ValueError, match="expected must give counts by split, such as"):
        read_expected(expected)


@pytest.mark.parametrize(("left_out", "is_taken"), [(0, False), (1, False), (2, True), (9, True)])
def test_captions_that_were_left_out_and_counted_may_be_missing(left_out, is_taken):
    """A published file with a caption that cannot be scored still has its images."""
    found = _captions("aab", split="train")
    expected = {"train": Count(2, 5)}
    if is_taken:
        check_counts(found, expected, name="x", left_out=left_out)
        with pytest.raises(ValueError, match="must have 3 images with 5 captions. Got 2 with 3"):
            check_counts(found, {"train": Count(3, 5)}, name="x", left_out=left_out)
        with pytest.raises(ValueError, match="must have 2 images with 2 captions. Got 2 with 3"):
            check_counts(found, {"train": Count(2, 2)}, name="x", left_out=left_out)
    else:
        with pytest.raises(ValueError, match="must have 2 images with 5 captions. Got 2 with 3"):
            check_counts(found, expected, name="x", left_out=left_out)
