"""Flickr's token files, as published."""

import pytest

from gmail_kedro.corpora.flickr import read_flickr

LINES = b'10.jpg#0\tTwo men ; "one" waves .\r\n10.jpg#1\tTwo men , again .\n9_a.jpg#0\tEin Caf\xc3\xa9\n'


@pytest.fixture
def read(tmp_path):
    def read_lines(content: bytes, **options):
        (tmp_path / "results.token").write_bytes(content)
        return read_flickr(tmp_path / "results.token", tmp_path, name="flickr30k", **options)

    return read_lines


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_captions(read, mark, tmp_path):
    """Peers test 8: BOM and CRLF."""
    table = read(mark + LINES)
    assert table.captions.values.tolist() == [
        ["10.jpg#0", "10.jpg", 'Two men ; "one" waves .'],
        ["10.jpg#1", "10.jpg", "Two men , again ."],
        ["9_a.jpg#0", "9_a.jpg", "Ein Café"],
    ]
    assert table.images.folder == tmp_path


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"10.jpg\tno number\n", "must begin with name.jpg#number and a tab. Got '10.jpg'"),
        (b"10.jpg#0\tagain\n", "the token '10.jpg#0' must be used once only. 1 lines repeat one"),
    ],
)
def test_a_wrong_line_is_refused(read, line, message):
    with pytest.raises(ValueError, match=message):
        read(LINES + line)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"11.jpg#0\t \n", "blank caption"),
        (b"11.jpg#0\tcaf\xe9\n", "caption that is not UTF-8"),
        (b"11.jpg#0 no tab\n", "row with another number of columns"),
        (b"11.jpg#0\ta\tb\n", "row with another number of columns"),
        (b"11.jpg#0\t .\n", "caption without words"),
        (b"\n9.jpg#1\tx\n", "no file name"),
        (b"../11.jpg#0\tx\n", "file name that leads out of the images folder"),
    ],
)
def test_an_unusable_line_is_counted(read, line, reason):
    """Peers tests 8 and 12."""
    table = read(LINES + line)
    assert len(table.captions) == 3 + line.startswith(b"\n")
    assert table.skipped.counts == {reason: 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16(read, encoding):
    assert len(read(LINES.decode().encode(encoding)).captions) == 3


def test_one_image_has_one_name(read):
    table = read(LINES + b"./10.jpg#0\tone more\n")
    assert table.captions["image_id"].tolist() == ["10.jpg", "10.jpg", "9_a.jpg", "10.jpg"]
    assert table.captions["caption_id"].tolist()[-1] == "./10.jpg#0"


def test_absent_images_are_left_out_where_asked_and_counted(read, tmp_path):
    (tmp_path / "10.jpg").write_bytes(b"x")
    table = read(LINES, skip_missing=True)
    assert table.captions["image_id"].tolist() == ["10.jpg", "10.jpg"]
    assert table.skipped.counts == {"image that is not there": 1}


def test_an_empty_file_is_refused(read):
    with pytest.raises(ValueError, match="results.token' is empty"):
        read(b"")
