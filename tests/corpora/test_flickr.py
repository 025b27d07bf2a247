"""Flickr's token files, as published."""

import pytest

from gmail_kedro.corpora.flickr import read_flickr

LINES = b'10.jpg#0\tTwo men ; "one" waves .\r\n10.jpg#1\tTwo men , again .\n9_a.jpg#0\tEin Caf\xc3\xa9\n'


@pytest.fixture
def read(tmp_path):
    def read_lines(content: bytes):
        (tmp_path / "results.token").write_bytes(content)
        return read_flickr(tmp_path / "results.token", tmp_path, name="flickr30k")

    return read_lines


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_captions(read, mark, tmp_path):
    """Peers test 8: BOM and CRLF."""
    reading = read(mark + LINES)
    assert reading.captions.values.tolist() == [
        ["10.jpg#0", "10.jpg", 'Two men ; "one" waves .'],
        ["10.jpg#1", "10.jpg", "Two men , again ."],
        ["9_a.jpg#0", "9_a.jpg", "Ein Café"],
    ]
    assert reading.images.folder == tmp_path


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
        (b"../11.jpg#0\tx\n", "file name that leads out of the images folder"),
    ],
)
def test_an_unusable_line_is_counted(read, line, reason):
    """Peers tests 8 and 12."""
    reading = read(LINES + line)
    assert len(reading.captions) == 3
    assert reading.skipped.counts == {reason: 1}


def test_an_empty_file_is_refused(read):
    with pytest.raises(ValueError, match="results.token' cannot be read as .token: Empty CSV file"):
        read(b"")
