"""Text is UTF-8 to all readers, whatever it was saved as."""

import pytest

from gmail_kedro.corpora.text_files import open_utf8, read_text, to_utf8

TEXT = "[Käse, 猫 🐈]\nzwei\n"


@pytest.mark.reliability(8)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
def test_every_encoding_of_unicode_gives_the_same_bytes(tmp_path, encoding):
    path = tmp_path / "own.txt"
    path.write_bytes(TEXT.encode(encoding))
    with open_utf8(path) as file:
        assert file.read() == TEXT.encode()
    assert to_utf8(TEXT.encode(encoding), what="text") == TEXT.encode()
    assert read_text(path, what="list") == TEXT


@pytest.mark.parametrize("content", [b"", b"a", b"caf\xe9", b"ab"])
def test_other_bytes_stay(tmp_path, content):
    (tmp_path / "own.txt").write_bytes(content)
    with open_utf8(tmp_path / "own.txt") as file:
        assert file.read() == content


def test_a_file_that_is_not_what_its_mark_says_is_refused_by_name(tmp_path):
    (tmp_path / "own.txt").write_bytes("one two".encode("utf-16")[:-1])
    with pytest.raises(ValueError, match=r"file '.*own.txt' begins as UTF-16 but is not: truncated.*Save it as UTF-8"):
        open_utf8(tmp_path / "own.txt")


def test_another_encoding_is_refused_by_name_and_place(tmp_path):
    (tmp_path / "own.txt").write_bytes(b"caf\xe9")
    with pytest.raises(ValueError, match=r"The list '.*own.txt' must be UTF-8. Got byte 0xe9 at position 3. Save it"):
        read_text(tmp_path / "own.txt", what="list")
