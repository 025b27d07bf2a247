"""The reader takes what the published files hold and refuses, by name, what they should not hold."""

import json
import re
from pathlib import Path

import pytest

from gmail_kedro.corpora.corpus_protocols import CorpusProtocol
from gmail_kedro.corpora.karpathy import read_karpathy
from gmail_kedro.corpora.layouts import read_corpus
from gmail_kedro.images.decoding import decode_image

FLICKR8K = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "flickr8k"


def _parts(table):
    return table.captions, table.images


def test_captions_and_images(annotate, entries, images):
    captions, source = _parts(read_karpathy(annotate(entries), images, name="own"))
    assert captions.to_dict("records") == [
        {"caption_id": "1", "image_id": "900", "caption": "A cat.", "split": "train", "filename": "train2014/a.jpg"},
        {"caption_id": "2", "image_id": "900", "caption": "A grey cat, asleep.", "split": "train",
         "filename": "train2014/a.jpg"},
        {"caption_id": "3", "image_id": "901", "caption": "A dog.", "split": "train", "filename": "val2014/b.jpg"},
        {"caption_id": "4", "image_id": "902", "caption": "A bird.", "split": "test", "filename": "val2014/c.jpg"},
    ]  # fmt: skip
    assert source.read("901") == (images / "val2014" / "b.jpg").read_bytes()
    assert source.missing(["900", "901", "902"]) == []


def test_restval_is_left_out_when_not_named(annotate, entries, images):
    captions, images = _parts(read_karpathy(annotate(entries), images, name="own", train_splits=["train"]))
    assert captions.image_id.tolist() == ["900", "900", "902"]
    assert list(images.filenames) == ["900", "902"]


def test_a_split_of_ones_own_can_be_training(annotate, entries, images):
    entries[1]["split"] = "extra"
    captions, _ = _parts(read_karpathy(annotate(entries), images, name="own", train_splits=["train", "extra"]))
    assert captions.split.tolist() == ["train", "train", "train", "test"]


def test_imgid_serves_where_there_is_no_cocoid_and_no_filepath(annotate, entries, images):
    (images / "train2014" / "a.jpg").rename(images / "a.jpg")
    del entries[0]["cocoid"], entries[0]["filepath"]
    entries[2]["cocoid"] = None
    captions, images = _parts(read_karpathy(annotate(entries), images, name="own"))
    assert captions.image_id.unique().tolist() == ["0", "901", "2"]
    assert images.missing(["0"]) == []


@pytest.mark.parametrize(
    ("raw", "caption"),
    [
        ("Ein Käse über dem „Tisch“ — 5 €!", "Ein Käse über dem „Tisch“ — 5 €!"),
        ("一只猫 🐈 on a mat", "一只猫 🐈 on a mat"),
        ('"It\'s" <odd> & 100% {braces} \\ , ; .', '"It\'s" <odd> & 100% {braces} \\ , ; .'),
        ("  two\nlines\tand a\u00a0gap \n", "two lines and a gap"),
        ("<image>\nA cat. <image>", "A cat."),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_unicode_and_odd_punctuation_survive(annotate, entries, images, raw, caption, encoding):
    entries[0]["sentences"][0]["raw"] = raw
    captions, _ = _parts(read_karpathy(annotate(entries, encoding=encoding), images, name="own"))
    assert captions.caption[0] == caption


def test_string_ids_are_kept(annotate, entries, images):
    entries[0]["sentences"][0]["sentid"] = "007"
    captions, _ = _parts(read_karpathy(annotate(entries), images, name="own"))
    assert captions.caption_id.tolist() == ["007", "2", "3", "4"]


def test_an_absent_file_or_folder_is_named(tmp_path, annotate, entries, images):
    with pytest.raises(FileNotFoundError, match=r"annotations file of the corpus 'own' '.*none.json' does not exist"):
        read_karpathy(tmp_path / "none.json", images, name="own")
    with pytest.raises(FileNotFoundError, match=r"images folder '.*nowhere' of the corpus 'own' does not exist"):
        read_karpathy(annotate(entries), tmp_path / "nowhere", name="own")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"images": [', r"dataset_own.json' must be JSON. Got an error at line 1, column 13"),
        (b"", "must be JSON"),
        (b'{"images": "\xe9"}', r"must be UTF-8. Got byte 0xe9 at position 12"),
        (b"[]", r"must be an object with a list 'images' \(Karpathy's layout\). Got list instead"),
        (b'{"annotations": [], "info": 1}', r"Got \['annotations', 'info'\] instead"),
        (b'{"images": {}}', "must be an object with a list 'images'"),
        (b'{"images": []}', "of the corpus 'own' lists no images"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path, images, content, message):
    (tmp_path / "dataset_own.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_karpathy(tmp_path / "dataset_own.json", images, name="own")


def _set(path, value):
    """Returns a function that changes one place of the annotations; the value None removes the key."""

    def change(entries):
        *parents, last = path
        for key in parents:
            entries = entries[key]
        if value is None:
            del entries[last]
        else:
            entries[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _set([1, "filename"], None),
            r"images\[1\]: the key 'filename' is missing. Got the keys \['cocoid', 'filepath'",
        ),
        (_set([1, "split"], None), r"images\[1\] \('val2014/b.jpg'\): the key 'split' is missing"),
        (_set([1, "sentences"], None), r"\('val2014/b.jpg'\): the key 'sentences' is missing"),
        (_set([0, "sentences", 1, "raw"], None), r"\('train2014/a.jpg'\), sentences\[1\]: the key 'raw' is missing"),
        (_set([0, "sentences", 1, "sentid"], None), r"sentences\[1\]: the key 'sentid' is missing"),
        (_set([1], "b.jpg"), r"images\[1\]: must be an object with the key 'filename'. Got 'b.jpg'"),
        (_set([0, "sentences", 0], "A cat."), r"sentences\[0\]: must be an object with the key 'sentid'. Got 'A cat.'"),
        (_set([1, "filename"], "  "), "'filename' must be a non-blank string. Got '  '"),
        (_set([1, "filename"], 7), "'filename' must be a non-blank string. Got 7"),
        (_set([1, "filename"], "../../b.jpg"), r"must lie below the images folder. Got 'val2014/../../b.jpg'"),
        (_set([1, "filename"], "/etc/b.jpg"), "must lie below the images folder. Got '/etc/b.jpg'"),
        (_set([1, "split"], "dev"), r"must be one of \['train', 'restval', 'val', 'test'\]. Got 'dev'.*train_splits"),
        (_set([1, "sentences"], {}), r"\('val2014/b.jpg'\): 'sentences' must be a list of captions. Got {}"),
        (_set([1, "cocoid"], 1.5), "'cocoid' must be an integer or a string. Got 1.5"),
        (_set([1, "cocoid"], True), "'cocoid' must be an integer or a string. Got True"),
        (_set([1, "cocoid"], 900), r"images\[1\].*the image id '900' must be used once only.*images\[0\].*uses it too"),
        (_set([1, "sentences", 0, "sentid"], 2), r"images\[1\].*the sentid '2' must be used once only.*images\[0\]"),
        (_set([0, "sentences", 1, "sentid"], 1), "the sentid '1' must be used once only. the same entry uses it"),
        (_set([2, "filename"], "b.jpg"), r"images\[2\].*the filename 'val2014/b.jpg' must be used once only"),
    ],
)
def test_a_bad_entry_is_refused_by_name(annotate, entries, images, change, message):
    change(entries)
    with pytest.raises(ValueError, match=f"Corpus 'own', '.*dataset_own.json', .*{message}"):
        read_karpathy(annotate(entries), images, name="own")


def test_an_image_without_any_id_is_refused(annotate, entries, images):
    del entries[1]["cocoid"], entries[1]["imgid"]
    with pytest.raises(ValueError, match=r"images\[1\] \('val2014/b.jpg'\): the key 'imgid' is missing"):
        read_karpathy(annotate(entries), images, name="own")


@pytest.mark.reliability(12)
@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        (None, "no caption"),
        (" \n", "blank caption"),
        ("\u200b", "blank caption"),
        ("...", "caption without words"),
        (5, "caption that is not text"),
        ("a cat \ud83d", "caption that is not UTF-8"),
    ],
)
def test_a_caption_that_cannot_be_used_is_counted(tmp_path, entries, images, caption, reason):
    entries[0]["sentences"][1]["raw"] = caption
    path = tmp_path / "dataset_own.json"
    path.write_text(json.dumps({"images": entries}), encoding="ascii")
    table = read_karpathy(path, images, name="own")
    assert table.captions.caption_id.tolist() == ["1", "3", "4"]
    assert table.skipped.counts == {reason: 1}
    with pytest.raises(ValueError, match=rf"1 of the 4 entries.*\n- {reason}: 1 \(such as caption 2"):
        table.skipped.check(taken=3, limit=0.001, name="own")


def test_what_is_in_no_wanted_split_is_not_counted(annotate, entries, images):
    entries[1]["sentences"][0]["raw"] = None
    assert read_karpathy(annotate(entries), images, name="own", train_splits=["train"]).skipped.counts == {}


def test_an_image_without_captions_is_counted(annotate, entries, images):
    entries[1]["sentences"] = []
    table = read_karpathy(annotate(entries), images, name="own")
    assert table.captions.caption_id.tolist() == ["1", "2", "4"]
    assert table.skipped.counts == {"image without a caption": 1}


def test_absent_images_are_left_out_where_asked_and_counted(annotate, entries, images):
    (images / "train2014" / "a.jpg").unlink()
    table = read_karpathy(annotate(entries), images, name="own", skip_missing=True)
    assert table.captions.caption_id.tolist() == ["3", "4"]
    assert list(table.images.filenames) == ["901", "902"]
    assert table.skipped.counts == {"image that is not there": 1}
    table.skipped.check(taken=2, limit=0.0, name="own")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
def test_a_file_in_utf_16(annotate, entries, images, encoding):
    assert len(read_karpathy(annotate(entries, encoding=encoding), images, name="own").captions) == 4


@pytest.mark.parametrize("splits", [["train", "val"], ["test"], [], "train"])
def test_training_on_evaluation_splits_is_refused(annotate, entries, images, splits):
    message = re.escape(f"without ['val', 'test']. Got {splits!r} instead")
    with pytest.raises(ValueError, match=f"train_splits must be a list of splits {message}"):
        read_karpathy(annotate(entries), images, name="own", train_splits=splits)


def test_a_corpus_of_which_nothing_is_left_is_refused(annotate, entries, images):
    with pytest.raises(ValueError, match=r"none of the 1 images is in val, test or the train_splits \['train'\]"):
        read_karpathy(annotate(entries[1:2]), images, name="own", train_splits=["train"])


def test_a_corpus_carries_its_tasks(tmp_path, annotate, entries, images):
    tasks = {"animal": {"classes": ["cat", "dog"], "templates": ["a {}"], "labels": {"900": 0, "901": 1}}}
    (tmp_path / "classification.json").write_text(json.dumps({"tasks": tasks}))
    options = {"name": "own", "protocol": CorpusProtocol(), "expected": {}}
    places = {"annotations": annotate(entries), "images": images}
    corpus = read_corpus("karpathy", places, **options, classification=tmp_path / "classification.json")
    assert corpus.name == "own"
    assert len(corpus.captions) == 4
    assert corpus.labels["animal"].labels == {"900": 0, "901": 1}
    assert read_corpus("karpathy", places, **options).labels == {}


def test_labels_of_no_image_are_told(tmp_path, annotate, entries, images, caplog):
    labels = {"900": 0, "train2014/b.jpg": 1, "x": 1}
    tasks = {"animal": {"classes": ["cat", "dog"], "templates": ["a {}"], "labels": labels}}
    (tmp_path / "classification.json").write_text(json.dumps({"tasks": tasks}))
    read_corpus(
        "karpathy",
        {"annotations": annotate(entries), "images": images},
        name="own",
        protocol=CorpusProtocol(),
        expected={},
        classification=tmp_path / "classification.json",
    )
    assert "Task animal: 2 of its 3 labels are of no image of the corpus own, such as train2014/b.jpg" in caplog.text


def test_labels_by_other_ids_are_refused(tmp_path, annotate, entries, images):
    tasks = {"animal": {"classes": ["cat", "dog"], "templates": ["a {}"], "labels": {"a.jpg": 0}}}
    (tmp_path / "classification.json").write_text(json.dumps({"tasks": tasks}))
    with pytest.raises(
        ValueError,
        match="Task 'animal' must label images of the corpus 'own'.*'900'. Got none, but ids such as 'a.jpg'",
    ):
        read_corpus(
            "karpathy",
            {"annotations": annotate(entries), "images": images},
            name="own",
            protocol=CorpusProtocol(),
            expected={},
            classification=tmp_path / "classification.json",
        )


@pytest.mark.skipif(not FLICKR8K.is_dir(), reason=f"the development data {FLICKR8K} is not on this machine")
def test_flickr8k_as_published():
    captions, images = _parts(read_karpathy(FLICKR8K / "dataset_flickr8k.json", FLICKR8K / "images", name="flickr8k"))
    assert len(captions) == 35_000
    assert captions.image_id.nunique() == len(images.filenames) == 7_000
    assert captions.drop_duplicates("image_id").split.value_counts().to_dict() == {"train": 6000, "val": 1000}
    assert captions.caption[0] == "A child in a pink dress is climbing up a set of stairs in an entry way ."
    first = captions.image_id[0]
    assert decode_image(images.read(first), name=first).size == (112, 112)
