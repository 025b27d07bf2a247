"""One rule for captions, whatever the layout; lists written out as text are lists again."""

import pyarrow as pa
import pytest

from gmail_kedro.corpora.caption_text import (
    caption_faults,
    clean_captions,
    decode_texts,
    encode_text,
    read_written_list,
    without_image_marks,
)
from gmail_kedro.metrics.caption_scores import _tokenize_all_ptb, find_obstacle, tokenize_simple

TEXTS = [
    "plain", "  two\nlines\tand a\u00a0gap \n", "一只猫 🐈", "5 %", "a\u2028b\u2029c\u3000d\x1fe\x85f\x0bg\x0ch",
    "zero\u200bwidth", "e\u0301 combining", "\ufefftext", "emoji 👩‍👩‍👧 family", "שלום עולם",
]  # fmt: skip


@pytest.mark.reliability(8)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_white_space_of_every_kind_becomes_single_spaces(text):
    """Peers test 8: odd Unicode."""
    cleaned = clean_captions(pa.array([text], pa.large_string()))
    assert cleaned.to_pylist() == [" ".join(text.split())]
    assert not any(fault[0].as_py() for fault in caption_faults(cleaned).values())


@pytest.mark.reliability(8)
@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\ufeff", "\u2028 \u00a0", "\x07", "<image>", "<image>\n"])
def test_what_shows_nothing_is_blank(text):
    """Peers test 8: blanks of every kind."""
    faults = caption_faults(clean_captions(pa.array([text], pa.large_string())))
    assert [reason for reason, fault in faults.items() if fault[0].as_py()] == ["blank caption"]


def test_a_fault_is_named_once():
    faults = caption_faults(pa.array([None, "a\0", "\0", "ok"], pa.large_string()))
    assert {reason: fault.to_pylist() for reason, fault in faults.items()} == {
        "no caption": [True, False, False, False],
        "blank caption": [False, False, False, False],
        "caption without words": [False, False, False, False],
        "caption with a NUL character": [False, True, True, False],
    }


@pytest.mark.reliability(8)
@pytest.mark.parametrize("text", ["?!", "...", "🐈", "%", "𝒂 𝒄𝒂𝒕", "( - )", "①"])
def test_a_caption_without_words_is_told_apart_from_a_blank_one(text):
    """The caption metrics refuse a reference without words: one tokenizer ``?!``, the other an emoji."""
    faults = caption_faults(pa.array([text], pa.large_string()))
    assert [reason for reason, fault in faults.items() if fault[0].as_py()] == ["caption without words"]


@pytest.mark.skipif(bool(find_obstacle("ptb")), reason=find_obstacle("ptb"))
def test_what_is_taken_has_words_for_both_tokenizers():
    texts = pa.array(
        [*TEXTS, "?!", "🐈", "%", "𝒂 𝒄𝒂𝒕", "a", "7", "猫", "é", "ß?", "Ж", "א", "ي", "ก", "한"], pa.large_string()
    )
    wordless = caption_faults(clean_captions(texts))["caption without words"].to_pylist()
    taken = [text for text, is_wordless in zip(texts.to_pylist(), wordless, strict=True) if not is_wordless]
    assert len(taken) == len(texts) - 4
    assert all(map(tokenize_simple, taken))
    assert all(_tokenize_all_ptb(taken))


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("<image>\nWhat is it?", "What is it?"),
        ("a cat <image> asleep", "a cat asleep"),
        ("<image>", ""),
        ("<im<image>age>", "<im age>"),  # no mark is put together from what is left
        (" a <b> image ", " a <b> image "),
    ],
)
def test_marks_of_an_image_are_taken_out(text, bare):
    """A vision-language model would make room for a second image."""
    assert without_image_marks(text) == bare
    assert clean_captions(pa.array([text], pa.large_string())).to_pylist() == [bare.strip()]


def test_half_a_character_is_no_utf_8():
    texts = pa.array([encode_text("a cat \ud83d"), encode_text("ok"), encode_text(None)], pa.large_binary())
    decoded, bad = decode_texts(texts)
    assert (decoded.to_pylist(), bad) == ([None, "ok", None], [0])


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
