"""Lists written out as text are lists again; a caption in brackets is a caption."""

import pytest

from gmail_kedro.corpora.lists import read_written_list


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
