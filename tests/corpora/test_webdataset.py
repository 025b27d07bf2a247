"""Tars are read where they lie; what is broken in them is counted, never extracted and never silent."""

import gzip
import io
import pickle
import tarfile

import pytest

from gmail_kedro.corpora.tar_index import index_tar
from gmail_kedro.corpora.webdataset import read_webdataset

from .tars import samples, write_tar


@pytest.fixture
def picture(encode, photograph) -> bytes:
    return encode(photograph)


@pytest.fixture
def tars(tmp_path, picture):
    """Two tars of three and two samples."""
    write_tar(tmp_path / "tars/00000.tar", samples(3, picture))
    write_tar(tmp_path / "tars/00001.tar", samples(2, picture + b"\0", first=3))
    return tmp_path / "tars"


def _read(folder, **options):
    return read_webdataset(f"{folder}/*.tar", name="cc3m", **options)


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_captions_and_pictures(tmp_path, picture, kind):
    write_tar(tmp_path / "a.tar", samples(2, picture), kind=kind)
    reading = _read(tmp_path)
    assert reading.captions.to_dict("list") == {
        "caption_id": ["a/000000000", "a/000000001"],
        "image_id": ["a/000000000", "a/000000001"],
        "caption": ["a photograph of number 0", "a photograph of number 1"],
    }
    assert reading.images.read("a/000000001") == picture
    assert reading.skipped.counts == {}


def test_several_tars_follow_one_another(tars, picture):
    reading = pickle.loads(pickle.dumps(_read(tars)))
    assert reading.captions["image_id"].tolist() == [f"{n // 3:05d}/{n:09d}" for n in range(5)]
    assert len(reading.images) == 5
    assert reading.images.read("00001/000000004") == picture + b"\0"
    with pytest.raises(FileNotFoundError, match="no picture '00001/000000000' among the 5 in the tars, such as '000"):
        reading.images.read("00001/000000000")


def test_captions_may_come_from_the_json(tars):
    assert _read(tars, caption_key="long").captions["caption"][0] == "a photograph of number 0, at length"
    skipped = _read(tars, caption_key="other").skipped.counts
    assert skipped == {"json without a caption 'other'": 5}


def test_the_index_is_used_until_a_tar_changes(tars, tmp_path, picture, monkeypatch):
    first = _read(tars, index=tmp_path / "index")
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == ["00000.parquet", "00001.parquet"]
    read = []
    monkeypatch.setattr(
        "gmail_kedro.corpora.webdataset.index_tar", lambda path, **o: read.append(path.name) or index_tar(path, **o)
    )
    again = _read(tars, index=tmp_path / "index")
    assert read == []
    assert again.captions.equals(first.captions)
    assert again.images.read("00001/000000003") == picture + b"\0"
    write_tar(tars / "00001.tar", samples(1, picture, first=3))
    assert len(_read(tars, index=tmp_path / "index").captions) == 4
    assert read == ["00001.tar"]
    (tmp_path / "index/00000.parquet").write_bytes(b"PAR1")
    assert len(_read(tars, index=tmp_path / "index").captions) == 4
    assert read == ["00001.tar", "00000.tar"]


def test_another_caption_key_is_not_served_from_the_index(tars, tmp_path):
    _read(tars, index=tmp_path / "index")
    assert _read(tars, index=tmp_path / "index", caption_key="long").captions["caption"][0].endswith("at length")


def test_a_tar_cut_after_it_was_read_is_found_at_the_picture(tars):
    """Peers test 10: truncated."""
    images = _read(tars).images
    whole = (tars / "00001.tar").read_bytes()
    (tars / "00001.tar").write_bytes(whole[:1200])
    with pytest.raises(ValueError, match="picture '00001/000000004' ends beyond .*00001.tar', which was cut short"):
        images.read("00001/000000004")


@pytest.mark.parametrize("where", ["in a member", "in a header", "at a header", "garbage"])
def test_a_damaged_tar_is_read_as_far_as_it_goes_and_counted(tmp_path, picture, where):
    """Peers test 10: truncated, non-tar bytes; the limit of test 12."""
    path = write_tar(tmp_path / "a.tar", samples(3, picture), kind=tarfile.USTAR_FORMAT)
    whole = path.read_bytes()
    with tarfile.open(path) as tar:
        last = next(member for member in tar if member.name == "000000002.jpg")
    cuts = {"in a member": last.offset_data + 100, "in a header": last.offset + 100, "at a header": last.offset}
    cut = whole[: cuts.get(where, last.offset)]
    path.write_bytes(cut if where != "garbage" else cut + b"\x01garbage" * 300)
    with pytest.raises(ValueError, match=r"1 of the 1 tars of .* cannot be read to their end.*\n- a.tar \("):
        _read(tmp_path)
    reading = _read(tmp_path, fault_limit=1.0)
    assert reading.captions["image_id"].tolist() == ["a/000000000", "a/000000001"]


@pytest.mark.parametrize("content", [b"", b"<html>404</html>" * 100, b"\x7fELF" + bytes(2000)])
def test_what_is_no_tar_is_refused(tmp_path, content):
    """Peers test 10: zero-length, non-tar bytes."""
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(ValueError, match="1 of the 1 tars"):
        _read(tmp_path)


def test_a_compressed_tar_is_refused_without_unpacking(tmp_path):
    """Peers test 10: gzip bomb."""
    (tmp_path / "a.tar").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(ValueError, match="a.tar"):
        _read(tmp_path)


def _special(name, kind, target=""):
    header = tarfile.TarInfo(name)
    header.type, header.linkname = kind, target
    return header


def test_links_devices_and_paths_are_counted_and_nothing_is_written(tmp_path, picture, monkeypatch):
    """Peers test 10: absolute path, `..`, symlink, hardlink, device node, folder."""
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in/a.tar", "w") as tar:
        for name, content in samples(1, picture):
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
        tar.addfile(_special("folder", tarfile.DIRTYPE))
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            tar.addfile(_special(f"{number}x.jpg", kind, "/etc/passwd"))
        for name in ("/tmp/evil.jpg", "../evil.jpg", "a/../../evil.txt"):
            header = tarfile.TarInfo(name)
            header.size = len(picture)
            tar.addfile(header, io.BytesIO(picture))
    before = sorted(tmp_path.rglob("*"))
    reading = _read(tmp_path / "in")
    assert reading.captions["image_id"].tolist() == ["a/000000000"]
    assert reading.skipped.counts == {
        "member with an unusable name": 3,
        "member that is a link, a device or sparse": 4,
    }
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ([("x.jpg", b"1"), ("x.jpg", b"2"), ("x.txt", b"t")], "member that occurs twice"),
        ([("x.jpg", b"1"), ("x.txt", b"t"), ("x.txt", b"u")], "member that occurs twice"),
        ([("x.jpg", b"1")], "picture without a caption"),
        ([("x.txt", b"t")], "caption without a picture"),
        ([("x.jpg", b""), ("x.txt", b"t")], "empty picture"),
        ([("x.jpg", b"1"), ("x.txt", b" \n")], "blank caption"),
        ([("x.jpg", b"1"), ("x.txt", b"caf\xe9")], "caption that is not UTF-8"),
        ([("x.jpg", b"1"), ("x.txt", b"a\0b")], "caption with a NUL character"),
        ([("x.jpg", b"1"), ("x.txt", b"t" * (2**20 + 1))], "member that is too large"),
    ],
)
def test_a_bad_sample_is_counted_by_its_reason(tmp_path, picture, members, reason):
    """Peers tests 10 and 12: duplicate member names; skipped samples are counted per reason."""
    write_tar(tmp_path / "a.tar", [*samples(2, picture), *members])
    reading = _read(tmp_path)
    assert len(reading.captions) == 2
    assert reading.skipped.counts == {reason: 1}
    assert reading.images.read("a/000000001") == picture


def test_hidden_files_and_folders_in_names_are_fine(tmp_path, picture):
    write_tar(tmp_path / "a.tar", [("./deep/1.jpg", picture), ("./deep/1.txt", b"t"), ("__meta__", b""), (".x", b"")])
    reading = _read(tmp_path)
    assert reading.captions["image_id"].tolist() == ["a/deep/1"]
    assert reading.skipped.counts == {}


def test_no_tar_and_two_of_one_name_are_refused(tmp_path, picture):
    with pytest.raises(FileNotFoundError, match=r"'cc3m' '.*\*.tar' does not exist.*It comes from: the hub"):
        _read(tmp_path, home="the hub")
    for folder in ("a", "b"):
        write_tar(tmp_path / folder / "0.tar", samples(1, picture))
    with pytest.raises(ValueError, match=r"must have different names.*\['0'\] occur more than once"):
        read_webdataset(f"{tmp_path}/*/*.tar", name="cc3m")


def test_a_hundred_thousand_members_of_no_use_do_no_harm(tmp_path, picture):
    """Peers test 10: member bomb, scaled to a test's time."""
    junk = [(f"{number}.cls", b"") for number in range(5_000)]
    write_tar(tmp_path / "a.tar", [*junk, *samples(1, picture)], kind=tarfile.USTAR_FORMAT)
    assert len(_read(tmp_path).captions) == 1
