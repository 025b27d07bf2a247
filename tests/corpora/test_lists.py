"""Lists written out as text are lists again; a caption in brackets is a caption."""

import pyarrow as pa
import pytest

from gmail_kedro.corpora.lists import WrittenLists, is_list, one_row_a_caption, read_written_list
from gmail_kedro.corpora.skipping import Skipped


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ('["a cat", "it\'s \\"so\\" \\u00e9"]', ["a cat", 'it\'s "so" é']),
        ("['a cat', \"it's\", None]", ["a cat", "it's", None]),
        ('["one", null]', ["one", None]),
        ("['a cat'\n 'a dog']", ["a cat", "a dog"]),
        ("""['a cat' "it's 'so' 'good'"]""", ["a cat", "it's 'so' 'good'"]),
        ("""["it's 'so' 'good'", 'b']""", ["it's 'so' 'good'", "b"]),
        (" [] ", []),
        ("[sic] a cat", None),
        ("[a cat]", None),
        ("[1, 2]", None),
        ("['a', ['b']]", None),
        ("['a', ...", None),
        ("['a' ... 'b']", None),
        ("['a' 'b'] and ['c' 'd']", None),
        ("['a' 'b' ... 'c' 'd']", None),
        ("['a' + 'b']", None),
        ("[b'a', b'b']", None),
        ("[" * 10_000 + "]" * 10_000, None),
        ("a cat", None),
    ],
)
def test_lists_as_they_are_written(text, texts):
    assert read_written_list(text) == texts


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
