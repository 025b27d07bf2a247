"""Tables of every kind give blocks of rows, which have the numbers that they have in their files."""

import pyarrow as pa
import pytest

from gmail_kedro.corpora.skipped_entries import Skipped
from gmail_kedro.corpora.table_corpus import WrittenLists, one_row_a_caption
from gmail_kedro.corpora.table_streaming import RowNumbers, is_list, refuse_open_quote


def test_rows_that_are_left_out_have_numbers_too():
    rows = RowNumbers()
    assert rows.take(2).to_pylist() == [0, 1]
    assert [rows.leave_out(place) for place in (3, 4, 9)] == [3, 4, 9]  # a parser reads ahead
    assert rows.take(3).to_pylist() == [2, 5, 6]
    assert rows.take(0).to_pylist() == []
    assert rows.take(3).to_pylist() == [7, 8, 10]


@pytest.mark.parametrize(("last", "following"), [(None, 2), (2, 3), (5, 6), (0, 2)])
def test_a_file_goes_on_where_the_one_before_ended(last, following):
    """Also where that one ended with rows that were left out."""
    rows = RowNumbers()
    if last is not None:
        rows.leave_out(last)
    rows.take(1 if last == 0 else 2)
    rows.end_file()
    assert rows.total == following
    assert rows.leave_out(1) == following + 1
    assert rows.take(2).to_pylist() == [following, following + 2]


@pytest.fixture
def table(tmp_path):
    def write(content, encoding="utf-8"):
        (tmp_path / "own.csv").write_bytes(content.encode(encoding))
        return tmp_path / "own.csv"

    return write


@pytest.mark.reliability(8)
@pytest.mark.parametrize(
    "content",
    ['file,caption\na.jpg,"one\nb.jpg,two\nc.jpg,three\n', 'file,caption\na.jpg,"one\nb.jpg,"two"\nc.jpg,three\n'],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_open_quote_is_refused(table, content, encoding):
    with pytest.raises(ValueError, match=r"own.csv' has a quote that does not close, in or above line [34] .*Close it"):
        refuse_open_quote(table(content, encoding))


@pytest.mark.parametrize(
    "content", ['a,"one\n\ntwo"\nb,"she said ""hi"""\n', 'a,a 5" wall\nb,"two"\n', 'a,"x"y\n', "a,b\n", ""]
)
def test_quotes_that_pair_and_marks_within_a_cell_are_fine(table, content):
    refuse_open_quote(table(content))


LISTS = [["a", "b"], [], None, [None, "c"], ["d", "e"]]
KINDS = [pa.list_(pa.string()), pa.large_list(pa.string()), pa.list_view(pa.string()), pa.large_list_view(pa.string())]


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("first", [0, 2])
def test_each_caption_has_a_row_and_an_empty_list_keeps_its_own(kind, first):
    lists = pa.array(LISTS, kind).slice(first)
    assert is_list(lists.type)
    ids, captions, files = one_row_a_caption(
        pa.array(list("01234")).slice(first), lists, [pa.array(list("vwxyz")).slice(first)]
    )
    rows = list(zip(ids.to_pylist(), captions.to_pylist(), files.to_pylist(), strict=True))
    expected = [("0_0", "a", "v"), ("0_1", "b", "v"), ("1", None, "w"), ("2", None, "x"), ("3_0", None, "y")]
    expected += [("3_1", "c", "y"), ("4_0", "d", "z"), ("4_1", "e", "z")]
    assert rows == expected[3 if first else 0 :]


def test_lists_of_fixed_size_with_nulls_among_them():
    lists = pa.array([["a", "b"], None, ["c", "d"]], pa.list_(pa.string(), 2))
    ids, captions = one_row_a_caption(pa.array(list("012")), lists, [])
    assert ids.to_pylist() == ["0_0", "0_1", "1", "2_0", "2_1"]
    assert captions.to_pylist() == ["a", "b", None, "c", "d"]


def _read(blocks):
    skipped = Skipped()
    written = WrittenLists("text", skipped)
    read = [written.read(pa.array(range(len(block))), pa.record_batch({"text": block})) for block in blocks]
    return [(numbers.to_pylist(), batch.column("text").to_pylist()) for numbers, batch in read], skipped.summary


def test_a_column_of_written_lists_is_read_and_what_is_none_is_counted():
    blocks, counts = _read([['["a", "b"]', "['c']", None, "d", "[]", " "], ["e"]])
    assert blocks == [([0, 1, 2, 4, 5], [["a", "b"], ["c"], None, [], None]), ([], [])]
    assert counts == {"caption that is no list, where the others are lists written out": (2, "row 3")}


@pytest.mark.parametrize("first", [["a cat", "[sic] a dog", "['b']"], ["a cat"], ["a cat", "['b']", None, "[x]"]])
def test_captions_that_begin_with_a_bracket_stay(first):
    blocks, counts = _read([[None], first, ["['c']"]])
    assert [texts for _, texts in blocks] == [[None], first, ["['c']"]]
    assert counts == {}
