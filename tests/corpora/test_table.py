"""Tables of any kind give the same corpus; bad rows are counted, bad tables refused by name."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from gmail_kedro.corpora.table import read_table

ROWS = [("a.jpg", "A cat, grey."), ("sub/b.jpg", 'She said "hi"'), ("a.jpg", "猫 🐈")]


@pytest.fixture
def read(tmp_path):
    def read_content(name: str, content: bytes, **options):
        (tmp_path / name).write_bytes(content)
        return read_table(tmp_path / name, tmp_path, name="own", **options)

    return read_content


def _rows(reading):
    return [tuple(row) for row in reading.captions[["image_id", "caption"]].values.tolist()]


def _csv(rows, mark="", line_end="\n"):
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    return (mark + line_end.join(["file,caption", *quoted])).encode()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv(read, mark, line_end, tmp_path):
    """Peers test 8: BOM, CRLF, emoji."""
    reading = read("own.csv", _csv(ROWS, mark, line_end))
    assert _rows(reading) == ROWS
    assert reading.captions["caption_id"].tolist() == ["0", "1", "2"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.jpg").write_bytes(b"b")
    assert reading.images.read("sub/b.jpg") == b"b"


def test_a_caption_of_several_lines_becomes_one(read):
    assert _rows(read("own.csv", _csv([("a.jpg", "one\r\ntwo\tthree\u2003four")]))) == [("a.jpg", "one two three four")]


def test_tsv_takes_quotes_as_they_are(read):
    content = "\n".join(["caption\turl\tfile", 'He said "no\tx\ta.jpg', '"5\' wall"\ty\tb.jpg']).encode()
    assert _rows(read("cc.tsv", content)) == [("a.jpg", 'He said "no'), ("b.jpg", '"5\' wall"')]


def test_a_tsv_without_a_header_names_its_columns_and_pictures_by_row(read):
    """Conceptual Captions as published: caption and address, pictures saved by row number."""
    options = {"header": ["caption", "url"], "columns": {"file_pattern": "{row:04d}.jpg"}}
    reading = read("cc.tsv", b"one cat\thttp://x\ntwo cats\thttp://y\n", **options)
    assert _rows(reading) == [("0000.jpg", "one cat"), ("0001.jpg", "two cats")]


def test_parquet_and_json_lines_and_lists_of_captions(read, tmp_path):
    table = pa.table({"file": ["a.jpg", "b.jpg"], "caption": [["one", "two"], ["three"]], "n": [1, 2]})
    parquet.write_table(table, tmp_path / "t.parquet")
    reading = read_table(tmp_path / "t.parquet", tmp_path, name="own")
    assert _rows(reading) == [("a.jpg", "one"), ("a.jpg", "two"), ("b.jpg", "three")]
    assert reading.captions["caption_id"].tolist() == ["0_0", "0_1", "1_0"]
    lines = "\n".join(json.dumps({"file": file, "caption": caption, "other": 1}) for file, caption in ROWS)
    assert _rows(read("own.jsonl", lines.encode())) == ROWS
    lines = json.dumps({"file": "a.jpg", "caption": ["one", "two"]})
    assert _rows(read("own.jsonl", lines.encode())) == [("a.jpg", "one"), ("a.jpg", "two")]


def test_many_files_follow_one_another(tmp_path):
    for number in (1, 0):
        (tmp_path / f"part-{number}.csv").write_bytes(_csv([(f"{number}.jpg", f"text {number}")]))
    reading = read_table(str(tmp_path / "part-*.csv"), tmp_path, name="own")
    assert reading.captions.values.tolist() == [["0", "0.jpg", "text 0"], ["1", "1.jpg", "text 1"]]


def test_splits_and_columns_by_other_names(read):
    reading = read(
        "own.csv", b"filepath,title,part\na.jpg,x,train\nb.jpg,y,val\n",
        columns={"file": "filepath", "caption": "title", "split": "part"},
    )  # fmt: skip
    assert reading.captions.values.tolist() == [["0", "a.jpg", "x", "train"], ["1", "b.jpg", "y", "val"]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"c.jpg,", "blank caption"),
        (b'c.jpg,"\xef\xbb\xbf"', "blank caption"),
        (b"c.jpg,\xe2\x80\x8b", "blank caption"),
        (b"c.jpg,caf\xe9", "caption that is not UTF-8"),
        (b"c.jpg,a\0b", "caption with a NUL character"),
        (b"c.jpg,a,b", "row with another number of columns"),
        (b"/etc/c.jpg,a", "file name that leads out of the images folder"),
        (b"a/../../c.jpg,a", "file name that leads out of the images folder"),
        (b"C:\\c.jpg,a", "file name that leads out of the images folder"),
    ],
)
def test_a_bad_row_is_counted_by_its_reason(read, line, reason):
    """Peers tests 8 and 12: NUL, invalid UTF-8, blanks, paths; counted, not silent."""
    reading = read("own.csv", _csv(ROWS) + b"\n" + line + b"\nd.jpg,last\n")
    assert _rows(reading) == [*ROWS, ("d.jpg", "last")]
    assert reading.skipped.counts == {reason: 1}


def test_a_caption_of_a_megabyte_is_read(read):
    """Peers test 8: 1 MB line."""
    assert len(read("own.csv", _csv([("a.jpg", "word " * 200_000)])).captions["caption"][0]) == 999_999


def test_pictures_of_dead_links_are_left_out_where_asked(read, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    reading = read("own.csv", _csv(ROWS), skip_missing=True)
    assert _rows(reading) == [ROWS[0], ROWS[2]]
    assert reading.skipped.counts == {"picture that is not there": 1}
    reading.skipped.check(taken=2, limit=0.0, name="own")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "own.csv",
            b"a.jpg,A cat\n",
            r"Missing: \['file', 'caption'\]; got \['a.jpg', 'A cat'\].*header: \[",
        ),
        ("own.csv", b"", "own.csv' cannot be read as .csv: Empty CSV"),
        ("own.txt", b"x", r"must end in one of \['.csv', '.jsonl', .*Got '.txt'"),
        ("own.parquet", b"PAR1 cut", "own.parquet' cannot be read as .parquet"),
        ("own.jsonl", b"[1, 2]", r"must have a JSON object in each line. Got b'\[1, 2\]'"),
        ("own.jsonl", b"not json", "must have a JSON object in each line. Line 1"),
        ("own.jsonl", b'{"file": "a"}', r"Missing: \['caption'\]; got \['file'\]"),
        ("own.jsonl", b'{"file": "a", "caption": "b"}\n{"file": ', "own.jsonl' cannot be read as .jsonl"),
    ],
)
def test_a_table_of_another_form_is_refused(read, name, content, message):
    """Peers test 8: missing column, no header, damaged files."""
    with pytest.raises(ValueError, match=message):
        read(name, content)


def test_absent_tables_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="'own' '.*none.csv' does not exist"):
        read_table(tmp_path / "none.csv", tmp_path, name="own")
    with pytest.raises(FileNotFoundError, match=r"'own' '.*none-\*.csv' does not exist"):
        read_table(str(tmp_path / "none-*.csv"), tmp_path, name="own")


@pytest.mark.parametrize("key", ["../x.jpg", "/etc/passwd", ""])
def test_a_picture_outside_the_folder_is_never_read(read, key):
    """Peers test 27: path outside."""
    with pytest.raises(FileNotFoundError, match="is not below the folder"):
        read("own.csv", _csv(ROWS)).images.read(key)


def test_an_absent_picture_is_named(read):
    with pytest.raises(FileNotFoundError, match="picture 'a.jpg' should be the file '.*a.jpg', which does not exist"):
        read("own.csv", _csv(ROWS)).images.read("a.jpg")
