"""Tars are read where they lie; what is broken in them is counted, never extracted and never silent."""

import gzip
import io
import json
import os
import pickle
import tarfile

import pytest
from kedro.io import DatasetError

from gmail_kedro.corpora.tar_index import index_tar
from gmail_kedro.corpora.webdataset import read_webdataset
from gmail_kedro.datasets.corpus import CorpusDataset

from .tars import samples, write_tar


@pytest.fixture
def image(encode, real_image) -> bytes:
    return encode(real_image)


@pytest.fixture
def tars(tmp_path, image):
    """Two tars of three and two samples."""
    write_tar(tmp_path / "tars/00000.tar", samples(3, image))
    write_tar(tmp_path / "tars/00001.tar", samples(2, image + b"\0", first=3))
    return tmp_path / "tars"


SEVERAL = "several images or captions whose names are equal up to the first dot"


def _read(folder, **options):
    return read_webdataset(f"{folder}/*.tar", name="cc3m", **options)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_captions_and_images(tmp_path, image, kind):
    write_tar(tmp_path / "a.tar", samples(2, image), kind=kind)
    table = _read(tmp_path)
    assert table.captions.to_dict("list") == {
        "caption_id": ["a/000000000", "a/000000001"],
        "image_id": ["a/000000000", "a/000000001"],
        "caption": ["a photograph of number 0", "a photograph of number 1"],
    }
    assert table.images.read("a/000000001") == image
    assert table.skipped.counts == {}


def test_several_tars_follow_one_another(tars, image):
    table = pickle.loads(pickle.dumps(_read(tars)))
    assert table.captions["image_id"].tolist() == [f"{n // 3:05d}/{n:09d}" for n in range(5)]
    assert len(table.images) == 5
    assert table.images.read("00001/000000004") == image + b"\0"
    with pytest.raises(FileNotFoundError, match="no image '00001/000000000' among the 5 in the tars, such as '000"):
        table.images.read("00001/000000000")


def test_captions_may_come_from_the_json(tars):
    assert _read(tars, caption_key="long").captions["caption"][0] == "a photograph of number 0, at length"
    skipped = _read(tars, caption_key="other").skipped.counts
    assert skipped == {"json without a caption 'other'": 5}


@pytest.mark.reliability(8)
def test_every_line_of_a_text_is_a_caption(tmp_path, image):
    """The sets for retrieval are shared with five captions a text."""
    lines = b"\xef\xbb\xbfa dog\r\n\r\ntwo  dogs\r\n \na cat\n"
    write_tar(tmp_path / "a.tar", [*samples(1, image), ("x.jpg", image + b"\0"), ("x.txt", lines)])
    table = _read(tmp_path)
    assert table.captions.values.tolist() == [
        ["a/000000000", "a/000000000", "a photograph of number 0"],
        ["a/x-0", "a/x", "a dog"],
        ["a/x-2", "a/x", "two dogs"],
        ["a/x-4", "a/x", "a cat"],
    ]
    assert (len(table.images), table.images.read("a/x")) == (2, image + b"\0")
    assert table.skipped.counts == {}


@pytest.mark.parametrize("key", [None, "caption"])
def test_a_list_that_is_written_out_is_several_captions(tmp_path, image, key):
    written = {"x": '["a dog", null, "a\\ncat"]', "y": "['one'\n 'two']", "z": "[sic] a dog", "e": "[]"}
    members = []
    for name, text in written.items():
        member = (f"{name}.txt", text) if key is None else (f"{name}.json", json.dumps({key: text}))
        members += [(f"{name}.jpg", image), (member[0], member[1].encode())]
    write_tar(tmp_path / "a.tar", members)
    table = _read(tmp_path, caption_key=key)
    assert table.captions[["caption_id", "caption"]].values.tolist() == [
        ["a/x-0", "a dog"],
        ["a/x-2", "a cat"],
        ["a/y-0", "one"],
        ["a/y-1", "two"],
        ["a/z", "[sic] a dog"],
    ]
    assert table.skipped.counts == {"no caption": 1, "caption without words": 1}


@pytest.mark.reliability(8)
def test_a_list_in_the_json_is_several_captions(tmp_path, image):
    def member(key, captions):
        return [(f"{key}.jpg", image), (f"{key}.json", json.dumps({"caption": captions}).encode())]

    members = [*member("x", ["a dog", None, " ", "a\ncat"]), *member("y", ["one"]), *member("z", "alone")]
    bad = [*member("e", []), *member("n", None), *member("f", ["a", 3]), *member("s", "\ud800")]
    write_tar(tmp_path / "a.tar", [*members, *bad])
    table = _read(tmp_path, caption_key="caption")
    assert table.captions[["caption_id", "caption"]].values.tolist() == [
        ["a/x-0", "a dog"],
        ["a/x-3", "a cat"],
        ["a/y", "one"],
        ["a/z", "alone"],
    ]
    assert table.skipped.counts == {
        "json without a caption 'caption'": 2,
        "json whose caption 'caption' is neither text nor a list of texts": 1,
        "no caption": 1,
        "blank caption": 1,
        "caption that is not UTF-8": 1,
    }
    assert len(table.images) == 3


def test_the_id_of_a_line_is_not_that_of_another_sample(tmp_path, image):
    write_tar(tmp_path / "a.tar", [("x.jpg", image), ("x.txt", b"a\nb"), ("x-1.jpg", image), ("x-1.txt", b"c")])
    table = _read(tmp_path)
    assert table.captions["caption_id"].tolist() == ["a/x-1"]
    assert table.skipped.counts == {"several captions, one of them with the name of another sample": 1}


def test_dotted_names_are_taken_where_they_say_which_image_is_meant(tmp_path, image):
    dotted = [("s.input.jpg", image), ("s.input.txt", b"dotted"), ("s.mask.npy", b"")]
    plain = [("p.seg.png", b"x"), ("p.jpg", image + b"\0"), ("p.long.txt", b"no"), ("p.txt", b"plain")]
    write_tar(tmp_path / "a.tar", [*dotted, *plain])
    table = _read(tmp_path)
    assert table.captions[["image_id", "caption"]].values.tolist() == [["a/s", "dotted"], ["a/p", "plain"]]
    assert table.images.read("a/p") == image + b"\0"
    assert table.skipped.counts == {}


@pytest.mark.parametrize("ending", ["gif", "bmp", "TIFF", "jfif"])
def test_every_ending_that_can_be_decoded_is_taken(tmp_path, image, ending):
    write_tar(tmp_path / "a.tar", [(f"x.{ending}", image), ("x.txt", b"t")])
    assert _read(tmp_path).images.read("a/x") == image


def test_an_index_of_an_older_version_is_not_used(tars, tmp_path, monkeypatch):
    monkeypatch.setattr("gmail_kedro.corpora.webdataset.INDEX_VERSION", 1)
    _read(tars, index=tmp_path / "index")
    monkeypatch.undo()
    read = []
    monkeypatch.setattr(
        "gmail_kedro.corpora.webdataset.index_tar", lambda path, **o: read.append(path.name) or index_tar(path, **o)
    )
    _read(tars, index=tmp_path / "index")
    assert read == ["00000.tar", "00001.tar"]


def test_a_tar_written_anew_with_its_old_time_and_size_is_read_again(tars, tmp_path, image):
    _read(tars, index=tmp_path / "index")
    before = (tars / "00000.tar").stat()
    write_tar(tars / "00000.tar", [(name, content.replace(b"photo", b"sketch")) for name, content in samples(3, b"x")])
    os.truncate(tars / "00000.tar", before.st_size)
    os.utime(tars / "00000.tar", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert _read(tars, index=tmp_path / "index").captions["caption"][0] == "a sketchgraph of number 0"


@pytest.mark.reliability(10)
def test_empty_tars_are_refused_by_name(tmp_path):
    write_tar(tmp_path / "a.tar", [("__meta__", b"")])
    entry = {"name": "cc3m", "layout": "webdataset", "tars": f"{tmp_path}/*.tar", "protocol": {"split": "train"}}
    with pytest.raises(DatasetError, match=r"files of the corpus 'cc3m' hold no entry: tars '.*\*.tar'"):
        CorpusDataset(**entry).load()
    write_tar(tmp_path / "a.tar", [("x.img", b"1")])
    with pytest.raises(
        DatasetError, match=r"no entry that can be used. Left out:\n- sample .*: 1 \(such as a.tar:x \(img"
    ):
        CorpusDataset(**entry, skip_limit=1.0).load()


def test_one_tar_under_two_names_is_refused(tars):
    (tars / "copy.tar").symlink_to(tars / "00001.tar")
    with pytest.raises(ValueError, match="must be different files, but '.*copy.tar' and '.*00001.tar' are one"):
        _read(tars)


def test_the_index_is_used_until_a_tar_changes(tars, tmp_path, image, monkeypatch):
    first = _read(tars, index=tmp_path / "index")
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["00000.parquet", "00001.parquet"]
    read = []
    monkeypatch.setattr(
        "gmail_kedro.corpora.webdataset.index_tar", lambda path, **o: read.append(path.name) or index_tar(path, **o)
    )
    again = _read(tars, index=tmp_path / "index")
    assert read == []
    assert again.captions.equals(first.captions)
    assert again.images.read("00001/000000003") == image + b"\0"
    write_tar(tars / "00001.tar", samples(1, image, first=3))
    assert len(_read(tars, index=tmp_path / "index").captions) == 4
    assert read == ["00001.tar"]
    (tmp_path / "index/00000.parquet").write_bytes(b"PAR1")
    assert len(_read(tars, index=tmp_path / "index").captions) == 4
    assert read == ["00001.tar", "00000.tar"]


def test_another_caption_key_is_not_served_from_the_index(tars, tmp_path):
    _read(tars, index=tmp_path / "index")
    assert _read(tars, index=tmp_path / "index", caption_key="long").captions["caption"][0].endswith("at length")


@pytest.mark.reliability(10)
@pytest.mark.reliability(10)
def test_a_tar_cut_after_it_was_read_is_found_at_the_image(tars):
    """Peers test 10: truncated."""
    images = _read(tars).images
    whole = (tars / "00001.tar").read_bytes()
    (tars / "00001.tar").write_bytes(whole[:1200])
    with pytest.raises(ValueError, match="image '00001/000000004' ends beyond .*00001.tar', which was cut short"):
        images.read("00001/000000004")


@pytest.mark.reliability(10)
@pytest.mark.parametrize("where", ["in a member", "in a header", "at a header", "garbage"])
@pytest.mark.reliability(10)
def test_a_damaged_tar_is_read_as_far_as_it_goes_and_counted(tmp_path, image, where):
    """Peers test 10: truncated, non-tar bytes; the limit of test 12."""
    path = write_tar(tmp_path / "a.tar", samples(3, image), kind=tarfile.USTAR_FORMAT)
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        last = next(member for member in tar if member.name == "000000002.jpg")
    cuts = {"in a member": last.offset_data + 100, "in a header": last.offset + 100, "at a header": last.offset}
    cut = whole[: cuts.get(where, last.offset)]
    path.write_bytes(cut if where != "garbage" else cut + b"\x01garbage" * 300)
    with pytest.raises(ValueError, match=r"1 of the 1 tars of .* cannot be read to their end.*\n- a.tar \("):
        _read(tmp_path)
    table = _read(tmp_path, fault_limit=1.0)
    assert table.captions["image_id"].tolist() == ["a/000000000", "a/000000001"]


@pytest.mark.reliability(10)
@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100, b"\x7fELF" + bytes(2000)])
@pytest.mark.reliability(10)
def test_what_is_no_tar_is_refused(tmp_path, content):
    """Peers test 10: zero-length, non-tar bytes."""
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ValueError, match="1 of the 1 tars"):
        _read(tmp_path)


@pytest.mark.reliability(10)
@pytest.mark.reliability(10)
def test_a_compressed_tar_is_refused_without_unpacking(tmp_path):
    """Peers test 10: gzip bomb."""
    (tmp_path / "a.tar").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(ValueError, match="a.tar"):
        _read(tmp_path)


def _special(name, kind, target=""):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


@pytest.mark.reliability(10)
@pytest.mark.reliability(10)
def test_links_devices_and_paths_are_counted_and_nothing_is_written(tmp_path, image, monkeypatch):
    """Peers test 10: absolute path, `..`, symlink, hardlink, device node, folder."""
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/a.tar", "w") as tar:
        for name, content in samples(1, image):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
        tar.addfile(_special("folder", tarfile.DIRTYPE))
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            tar.addfile(_special(f"{number}x.jpg", kind, "/etc/passwd"))
        for name in ("/tmp/evil.jpg", "../evil.jpg", "a/../../evil.txt"):
            header = tarfile.TarInfo(name)
            header.size = len(image)
            tar.addfile(header, io.BytesIO(image))
    before = sorted(tmp_path.rglob("*"))
    table = _read(tmp_path / "in")
    assert table.captions["image_id"].tolist() == ["a/000000000"]
    assert table.skipped.counts == {
        "member with an unusable name": 3,
        "member that is a link, a device or sparse": 4,
    }
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.reliability(10)
@pytest.mark.reliability(12)
@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("x.jpg", b"1"), ("x.jpg", b"2"), ("x.txt", b"t")], "member that occurs twice"),
        ([("x.jpg", b"1"), ("x.txt", b"t"), ("x.txt", b"u")], "member that occurs twice"),
        ([("x.jpg", b"1")], "image without a caption"),
        ([("x.jpg", b"1"), ("x.png", b"2"), ("x.txt", b"t")], SEVERAL),
        ([("x.a.jpg", b"1"), ("x.b.jpg", b"2"), ("x.txt", b"t")], SEVERAL),
        ([("x.jpg", b"1"), ("x.a.txt", b"t"), ("x.b.txt", b"u")], SEVERAL),
        ([("x.txt", b"t")], "caption without an image"),
        ([("x.json", b"{}")], "sample with neither an image nor a caption of a known ending"),
        ([("x.cls", b"1")], "sample with neither an image nor a caption of a known ending"),
        ([("x.img", b"1"), ("x.cap", b"t")], "sample with neither an image nor a caption of a known ending"),
        ([("x.heic", b"1"), ("x.txt", b"t")], "image in a format that is not read here (heic)"),
        ([("x.in.CR2", b"1")], "image in a format that is not read here (cr2)"),
        ([("x.input.jpg", b"1")], "image without a caption"),
        ([("README", b"1")], "member with an unusable name"),
        ([("__x.txt", b"t")], "caption without an image"),
        ([("x.jpg", b""), ("x.txt", b"t")], "empty image"),
        ([("x.jpg", b"1"), ("x.txt", b" \n")], "blank caption"),
        ([("x.jpg", b"1"), ("x.txt", b"caf\xe9")], "caption that is not UTF-8"),
        ([("x.jpg", b"1"), ("x.txt", b"a\0b")], "caption with a NUL character"),
        ([("x.jpg", b"1"), ("x.txt", b"t" * (2**20 + 1))], "member that is too large"),
    ],
)
@pytest.mark.reliability(12)
def test_a_bad_sample_is_counted_by_its_reason(tmp_path, image, members, reason):
    """Peers tests 10 and 12: duplicate member names; skipped samples are counted per reason."""
    write_tar(tmp_path / "a.tar", [*samples(2, image), *members])
    table = _read(tmp_path)
    assert len(table.captions) == 2
    assert table.skipped.counts == {reason: 1}
    assert table.images.read("a/000000001") == image


def test_hidden_files_and_folders_in_names_are_fine(tmp_path, image):
    write_tar(tmp_path / "a.tar", [("./deep/1.jpg", image), ("./deep/1.txt", b"t"), ("__meta__", b""), (".x", b"")])
    table = _read(tmp_path)
    assert table.captions["image_id"].tolist() == ["a/deep/1"]
    assert table.skipped.counts == {}


def test_no_tar_and_two_of_one_name_are_refused(tmp_path, image):
    with pytest.raises(FileNotFoundError, match=r"'cc3m' '.*\*.tar' does not exist.*It comes from: the hub"):
        _read(tmp_path, home="the hub")
    for folder in ("a", "b"):
        write_tar(tmp_path / folder / "0.tar", samples(1, image))
    with pytest.raises(ValueError, match=r"must have different names.*\['0'\] occur more than once"):
        read_webdataset(f"{tmp_path}/*/*.tar", name="cc3m")


@pytest.mark.reliability(10)
@pytest.mark.reliability(10)
def test_a_hundred_thousand_members_of_no_use_do_no_harm(tmp_path, image):
    """Peers test 10: member bomb, scaled to a test's time."""
    junk = [(f"{number}.cls", b"") for number in range(5_000)]
    write_tar(tmp_path / "a.tar", [*junk, *samples(1, image)], kind=tarfile.USTAR_FORMAT)
    table = _read(tmp_path)
    assert len(table.captions) == 1
    assert table.skipped.counts == {"sample with neither an image nor a caption of a known ending": 5_000}
