"""One rule for captions, whether they come one by one or as a column."""

import pyarrow as pa
import pytest

from gmail_kedro.corpora.texts import caption_faults, clean_caption, clean_captions

TEXTS = [
    "plain", "  two\nlines\tand a\u00a0gap \n", "一只猫 🐈", "...", "a\u2028b\u2029c\u3000d\x1fe\x85f\x0bg\x0ch",
    "zero\u200bwidth", "e\u0301 combining", "\ufefftext", "emoji 👩‍👩‍👧 family", "שלום עולם",
]  # fmt: skip


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_both_ways_agree(text):
    """Peers test 8: odd Unicode."""
    column = pa.array([text], pa.large_string())
    assert clean_captions(column).to_pylist() == [clean_caption(text, "x")]
    assert not any(fault[0].as_py() for fault in caption_faults(column).values())


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\ufeff", "\u2028 \u00a0", "\x07"])
def test_both_ways_refuse_what_shows_nothing(text):
    """Peers test 8: blanks of every kind."""
    column = pa.array([text], pa.large_string())
    assert caption_faults(column)["blank caption"].to_pylist() == [True]
    with pytest.raises(ValueError, match="x: the caption must be text"):
        clean_caption(text, "x")


def test_a_fault_is_named_once():
    faults = caption_faults(pa.array([None, "a\0", "\0", "ok"], pa.large_string()))
    assert {reason: fault.to_pylist() for reason, fault in faults.items()} == {
        "no caption": [True, False, False, False],
        "blank caption": [False, False, False, False],
        "caption with a NUL character": [False, True, True, False],
    }
