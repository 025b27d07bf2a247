"""Tables of any kind give the same corpus; bad rows are counted, bad tables refused by name."""

import json

import pyarrow as pa
import pytest
from pyarrow import parquet

from gmail_kedro.corpora.table_corpus import read_table

ROWS = [("a.jpg", "A cat, grey."), ("sub/b.jpg", 'She said "hi"'), ("a.jpg", "猫 🐈")]


@pytest.fixture
def read(tmp_path):
    def read_content(name: str, content: bytes, **options):
        (tmp_path / name).write_bytes(content)
        return read_table(tmp_path / name, tmp_path, name="own", **options)

    return read_content


def _rows(table):
    return [tuple(row) for row in table.captions[["image_id", "caption"]].values.tolist()]


def _csv(rows, mark="", line_end="\n"):
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    return (mark + line_end.join(["file,caption", *quoted])).encode()


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_csv(read, mark, line_end, tmp_path):
    """Peers test 8: BOM, CRLF, emoji."""
    table = read("own.csv", _csv(ROWS, mark, line_end))
    assert _rows(table) == ROWS
    assert table.captions["caption_id"].tolist() == ["0", "1", "2"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/b.jpg").write_bytes(b"b")
    assert table.images.read("sub/b.jpg") == b"b"


def test_a_caption_of_several_lines_becomes_one(read):
    assert _rows(read("own.csv", _csv([("a.jpg", "one\r\ntwo\tthree\u2003four")]))) == [("a.jpg", "one two three four")]


def test_tsv_takes_quotes_as_they_are(read):
    content = "\n".join(["caption\turl\tfile", 'He said "no\tx\ta.jpg', '"5\' wall"\ty\tb.jpg']).encode()
    assert _rows(read("cc.tsv", content)) == [("a.jpg", 'He said "no'), ("b.jpg", '"5\' wall"')]


def test_a_tsv_without_a_header_names_its_columns_and_images_by_row(read):
    """Conceptual Captions as published: caption and address, images saved by row number."""
    options = {"header": ["caption", "url"], "columns": {"file_pattern": "{row:04d}.jpg"}}
    table = read("cc.tsv", b"one cat\thttp://x\ntwo cats\thttp://y\n", **options)
    assert _rows(table) == [("0000.jpg", "one cat"), ("0001.jpg", "two cats")]


def test_parquet_and_json_lines_and_lists_of_captions(read, tmp_path):
    table = pa.table({"file": ["a.jpg", "b.jpg"], "caption": [["one", "two"], ["three"]], "n": [1, 2]})
    parquet.write_table(table, tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", tmp_path, name="own")
    assert _rows(table) == [("a.jpg", "one"), ("a.jpg", "two"), ("b.jpg", "three")]
    assert table.captions["caption_id"].tolist() == ["0_0", "0_1", "1_0"]
    lines = "\n".join(json.dumps({"file": file, "caption": caption, "other": 1}) for file, caption in ROWS)
    assert _rows(read("own.jsonl", lines.encode())) == ROWS
    lines = json.dumps({"file": "a.jpg", "caption": ["one", "two"]})
    assert _rows(read("own.jsonl", lines.encode())) == [("a.jpg", "one"), ("a.jpg", "two")]


@pytest.mark.reliability(8)
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("bad", [b"", b"two\ttabs\there", b" "])
@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_line_that_is_left_out_moves_no_image(read, header, bad, place):
    lines = [b"number %d\tx" % number for number in range(5)]
    lines[place] = bad
    options = {"columns": {"file_pattern": "{row}.jpg"}} | ({} if header else {"header": ["caption", "url"]})
    table = read("own.tsv", b"\n".join([b"caption\turl"] * header + lines + [b"number 5\t", b"", b""]), **options)
    kept = [number for number in range(6) if number != place]
    assert _rows(table) == [(f"{number}.jpg", f"number {number}") for number in kept]
    assert table.captions["caption_id"].tolist() == [str(number) for number in kept]
    assert sum(table.skipped.counts.values()) == 1


@pytest.mark.reliability(8)
def test_rows_keep_their_numbers_over_blocks_and_files(tmp_path, monkeypatch):
    """Quoted line ends are part of a row; the next file goes on after the last row, whatever that is."""
    monkeypatch.setattr("gmail_kedro.corpora.table_streaming.BLOCK_BYTES", 200)
    first = [f'"number {row}\n\nof many",x' for row in range(50)]
    first[7], first[30], first[49] = "a,b,c", "", "a,b,c"
    (tmp_path / "part-0.csv").write_text("\n\ncaption,url\n" + "\n".join(first) + "\n")
    (tmp_path / "part-1.csv").write_text("caption,url\nnumber 50,x\na,b,c\nnumber 52,x\n")
    table = read_table(str(tmp_path / "part-*.csv"), tmp_path, name="own", columns={"file_pattern": "{row}.jpg"})
    expected = [(f"{row}.jpg", f"number {row} of many") for row in range(50) if row not in (7, 30, 49)]
    assert _rows(table) == [*expected, ("50.jpg", "number 50"), ("52.jpg", "number 52")]
    assert table.skipped.counts == {"row with another number of columns": 3, "blank caption": 1}


@pytest.mark.reliability(8)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(
    ("suffix", "rows"),
    [
        ("tsv", ["number {}\tx", "\t"]),
        ("csv", ['"number {}",x', ","]),
        ("jsonl", ['{{"caption": "number {}"}}', '{"caption": ""}']),
    ],
)
def test_a_blank_last_line_moves_no_image_of_the_next_table(tmp_path, end, suffix, rows):
    """A download of an image that failed may have left the last line blank, or an editor wrote it."""
    whole, without_caption = rows
    options = {"columns": {"file_pattern": "{row}.jpg"}} | ({} if suffix == "jsonl" else {"header": ["caption", "url"]})
    places = (str(tmp_path / f"*.{suffix}"), tmp_path)
    for name, first in (("a", 0), ("b", 3)):
        lines = [*(whole.format(row) for row in (first, first + 1)), ""]
        (tmp_path / f"{name}.{suffix}").write_bytes("".join(line + end for line in lines).encode())
    with pytest.raises(ValueError, match=rf"a.{suffix}' ends in blank lines.*rows with an empty caption"):
        read_table(*places, name="own", **options)
    first = tmp_path / f"a.{suffix}"
    first.write_bytes(first.read_bytes().removesuffix(end.encode()) + f"{without_caption}{end}".encode())
    table = read_table(*places, name="own", **options)
    assert _rows(table) == [(f"{row}.jpg", f"number {row}") for row in (0, 1, 3, 4)]
    assert sum(table.skipped.counts.values()) == 1


@pytest.mark.reliability(8)
def test_lines_of_json_that_are_left_out_move_no_image(read):
    captions = ["number 0", None, ["number 2", "again 2"], 5, "number 4", ["number 5", 6], "", "number 7"]
    lines = [json.dumps({"caption": caption}) for caption in captions]
    lines.insert(1, "")
    table = read("own.jsonl", "\n".join([*lines, "\n"]).encode(), columns={"file_pattern": "{row}.jpg"})
    numbers = [(0, "number 0"), (3, "number 2"), (3, "again 2"), (5, "number 4"), (8, "number 7")]
    assert _rows(table) == [(f"{row}.jpg", caption) for row, caption in numbers]
    assert table.skipped.counts == {
        "blank line": 1,
        "caption that is not text": 2,
        "no caption": 1,
        "blank caption": 1,
    }


def test_half_a_character_and_other_bytes_in_json_lines_are_counted(read):
    content = b'{"file": "a.jpg", "caption": "x"}\n{"file": "b.jpg", "caption": "\\ud83d y"}\n'
    table = read("own.jsonl", content + b'{"file": "c.jpg", "caption": "caf\xe9"}\n')
    assert _rows(table) == [("a.jpg", "x")]
    assert table.skipped.counts == {"caption that is not UTF-8": 2}


@pytest.mark.reliability(8)
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_tables_in_other_encodings_of_unicode(read, encoding):
    assert _rows(read("own.csv", _csv(ROWS).decode().encode(encoding))) == ROWS
    lines = "\n".join(json.dumps({"file": file, "caption": caption}) for file, caption in ROWS)
    assert _rows(read("own.jsonl", lines.encode(encoding))) == ROWS


def test_lists_that_hold_nothing_are_counted_with_their_rows(tmp_path):
    lists = [["one", "two"], [], None, ["three"], [None, "four"]]
    files = [f"{row}.jpg" for row in range(5)]
    parquet.write_table(pa.table({"file": files, "caption": lists}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", tmp_path, name="own")
    assert table.captions["caption_id"].tolist() == ["0_0", "0_1", "3_0", "4_1"]
    assert _rows(table) == [("0.jpg", "one"), ("0.jpg", "two"), ("3.jpg", "three"), ("4.jpg", "four")]
    with pytest.raises(ValueError, match=r"no caption: 3 \(such as caption 1, caption 2, caption 4_0\)"):
        table.skipped.check(taken=4, limit=0.1, name="own")


@pytest.mark.parametrize(
    "captions",
    [
        pa.array([["one", "two"], ["three", "four"]], pa.list_(pa.string(), 2)),
        pa.array([["one", "two"], ["three", "four"]], pa.list_view(pa.large_string())),
        pa.array([[b"one", b"two"], [b"three", b"four"]], pa.large_list(pa.binary())),
        pa.array(["['one', 'two']", '["three", "four"]']),
    ],
    ids=lambda array: str(array.type),
)
def test_lists_of_every_kind(tmp_path, captions):
    parquet.write_table(pa.table({"file": ["a.jpg", "b.jpg"], "caption": captions}), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", tmp_path, name="own")
    assert _rows(table) == [("a.jpg", "one"), ("a.jpg", "two"), ("b.jpg", "three"), ("b.jpg", "four")]
    assert table.captions["caption_id"].tolist() == ["0_0", "0_1", "1_0", "1_1"]


def test_words_of_a_dictionary_are_text(tmp_path):
    table = pa.table({"file": ["a.jpg", "b.jpg"], "caption": pa.array(["one", "two"]).dictionary_encode()})
    parquet.write_table(table, tmp_path / "t.parquet")
    assert _rows(read_table(tmp_path / "t.parquet", tmp_path, name="own")) == [("a.jpg", "one"), ("b.jpg", "two")]


@pytest.mark.parametrize(
    ("values", "kind"),
    [([5, 7], "int64"), ([True, False], "bool"), ([[1], [2]], "list<.*int64>"), ([{"en": "x"}, {"en": "y"}], "struct")],
)
def test_a_column_that_is_no_text_is_refused_with_its_type(tmp_path, values, kind):
    """Numbers would become captions: "5", "true"."""
    parquet.write_table(pa.table({"file": ["a.jpg", "b.jpg"], "caption": values}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=f"column 'caption' of the table '.*t.parquet' must be text.*Got {kind}"):
        read_table(tmp_path / "t.parquet", tmp_path, name="own")
    table = pa.table({"file": values, "caption": ["one", "two"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=f"column 'file' of the table '.*t.parquet' must be text. Got {kind}"):
        read_table(tmp_path / "t.parquet", tmp_path, name="own")


def test_images_inside_a_table_are_refused_with_advice_that_works(tmp_path, monkeypatch, repository):
    """Data hubs store them so: bytes without a path, and paths without bytes, among them."""
    (tmp_path / "data/00_own/images").mkdir(parents=True)
    images = [{"bytes": b"zero", "path": None}, {"bytes": None, "path": "x.jpg"}, None, {"bytes": b"3", "path": "y"}]
    for part in (0, 1):
        table = pa.table({"image": images, "text": [f"number {4 * part + row}" for row in range(4)]})
        parquet.write_table(table, tmp_path / f"data/00_own/{part}.parquet")
    monkeypatch.chdir(tmp_path)
    places = ("data/00_own/*.parquet", "data/00_own/images")
    with pytest.raises(ValueError, match=r"column 'image' of .*0.parquet' must be text. Got struct.*own_corpus/README"):
        read_table(*places, name="own", columns={"file": "image", "caption": "text"})
    code = (repository / "conf/own_corpus/README.md").read_text().split("```python\n")[1].split("```")[0]
    exec(code, {})
    columns = {"file_pattern": "{row:09d}.jpg", "caption": "text"}
    table = read_table(*places, name="own", columns=columns, skip_missing=True)
    assert table.captions["caption"].tolist() == ["number 0", "number 3", "number 4", "number 7"]
    assert [table.images.read(key) for key in table.captions["image_id"]] == [b"zero", b"3", b"zero", b"3"]
    assert table.skipped.counts == {"image that is not there": 4}


@pytest.mark.reliability(12)
def test_lines_that_an_open_quote_takes_into_a_row_are_counted(read):
    table = read("own.csv", b'file,caption\na.jpg,one\n"b.jpg,two\nc.jpg,three\nd.jpg",4,5\ne.jpg,five\n')
    assert _rows(table) == [("a.jpg", "one"), ("e.jpg", "five")]
    assert table.skipped.counts == {"row with another number of columns": 3}


@pytest.mark.parametrize("written", ["./a.jpg", ".//a.jpg", "././a.jpg", "a.jpg", "a.jpg/", "a.jpg/./"])
def test_one_image_has_one_name(read, written):
    table = read("own.csv", _csv([(written, "one"), ("a.jpg", "two"), ("b//./c..jpg", "three"), ("b/c..jpg", "four")]))
    assert table.captions["image_id"].tolist() == ["a.jpg", "a.jpg", "b/c..jpg", "b/c..jpg"]


def test_many_files_follow_one_another(tmp_path):
    for number in (1, 0):
        (tmp_path / f"part-{number}.csv").write_bytes(_csv([(f"{number}.jpg", f"text {number}")]))
    table = read_table(str(tmp_path / "part-*.csv"), tmp_path, name="own")
    assert table.captions.values.tolist() == [["0", "0.jpg", "text 0"], ["1", "1.jpg", "text 1"]]


def test_splits_and_columns_by_other_names(read):
    table = read(
        "own.csv", b"filepath,title,part\na.jpg,x,train\nb.jpg,y,val\n",
        columns={"file": "filepath", "caption": "title", "split": "part"},
    )  # fmt: skip
    assert table.captions.values.tolist() == [["0", "a.jpg", "x", "train"], ["1", "b.jpg", "y", "val"]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"c.jpg,", "blank caption"),
        (b'c.jpg,"\xef\xbb\xbf"', "blank caption"),
        (b"c.jpg,\xe2\x80\x8b", "blank caption"),
        (b"c.jpg,caf\xe9", "caption that is not UTF-8"),
        (b"c.jpg,a\0b", "caption with a NUL character"),
        (b"c.jpg,?!", "caption without words"),
        (b" ,a cat", "no file name"),
        (b"./,a cat", "no file name"),
        (b".,a cat", "no file name"),
        (b"c.jpg,<image>", "blank caption"),
        (b",a", "no file name"),
        (b"", "no file name"),
        (b"c.jpg,a,b", "row with another number of columns"),
        (b"/etc/c.jpg,a", "file name that leads out of the images folder"),
        (b"a/../../c.jpg,a", "file name that leads out of the images folder"),
        (b"C:\\c.jpg,a", "file name that leads out of the images folder"),
    ],
)
def test_a_bad_row_is_counted_by_its_reason(read, line, reason):
    """Peers tests 8 and 12: NUL, invalid UTF-8, blanks, paths; counted, not silent."""
    table = read("own.csv", _csv(ROWS) + b"\n" + line + b"\nd.jpg,last\n")
    assert _rows(table) == [*ROWS, ("d.jpg", "last")]
    assert table.skipped.counts == {reason: 1}


def test_a_caption_of_a_megabyte_is_read(read):
    """Peers test 8: 1 MB line."""
    assert len(read("own.csv", _csv([("a.jpg", "word " * 200_000)])).captions["caption"][0]) == 999_999


def test_images_of_dead_links_are_left_out_where_asked(read, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"a")
    table = read("own.csv", _csv(ROWS), skip_missing=True)
    assert _rows(table) == [ROWS[0], ROWS[2]]
    assert table.skipped.counts == {"image that is not there": 1}
    table.skipped.check(taken=2, limit=0.0, name="own")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "own.csv",
            b"a.jpg,A cat\n",
            r"Missing: \['file', 'caption'\]; got \['a.jpg', 'A cat'\].*header: \[",
        ),
        ("own.csv", b"", "own.csv' is empty"),
        ("own.jsonl", b"", "own.jsonl' is empty"),
        ("own.csv", b"file,caption\n", "own.csv' of the corpus 'own' has no rows"),
        ("own.jsonl", b"\n\n", "own.jsonl' is empty"),
        ("own.csv", b"\n", "own.csv' is empty"),
        ("own.csv", b'file,caption\na.jpg,"one\nb.jpg,two\n', "own.csv' has a quote that does not close"),
        ("own.jsonl", b'\n{"file": "a"}\n', r"Missing: \['caption'\]; got \['file'\]"),
        ("own.csv", b"file,l\xe9gende\na.jpg,x\n", "own.csv' must be UTF-8. Got byte 0xe9 in its header. Save it"),
        ("own.csv", "file,caption".encode("utf-16")[:-1], "own.csv' begins as UTF-16 but is not.*Save it as UTF-8"),
        ("own.txt", b"x", r"must end in one of \['.csv', '.jsonl', .*Got '.txt'"),
        ("own.parquet", b"PAR1 cut", "own.parquet' cannot be read as .parquet"),
        ("own.jsonl", b"[1, 2]", r"must have a JSON object in each line. Got b'\[1, 2\]' in line 1"),
        ("own.jsonl", b"not json", "must have a JSON object in each line. Line 1"),
        ("own.jsonl", b'{"file": "a"}', r"Missing: \['caption'\]; got \['file'\]"),
        (
            "own.jsonl",
            b'{"file": "a", "caption": "b"}\n{"file": ',
            r"own.jsonl' must have a JSON object in each line. Line 2",
        ),
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
def test_an_image_outside_the_folder_is_never_read(read, key):
    """Peers test 27: path outside."""
    with pytest.raises(FileNotFoundError, match="is not below the folder"):
        read("own.csv", _csv(ROWS)).images.read(key)


def test_an_absent_image_is_named(read):
    with pytest.raises(FileNotFoundError, match="image 'a.jpg' should be the file '.*a.jpg', which does not exist"):
        read("own.csv", _csv(ROWS)).images.read("a.jpg")
