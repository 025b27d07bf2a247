"""Reads the facts off a caption of the mini world: the grammar of ``captions.py`` backwards."""

import re

from gmail_kedro.mini.world.caption_grammar import (
    PATTERN_WORDS,
    POSITION_PHRASES,
    RELATION_PHRASES,
    SHEETS,
    SIZE_WORDS,
    number_in_words,
)
from gmail_kedro.mini.world.scenes import INKS, PAPERS

COLOURS = (*INKS, *PAPERS)
NUMBERS = {
    number_in_words(digits): "".join(map(str, digits))
    for digits in [(first, second) for first in range(10) for second in range(10)] + [(digit,) for digit in range(10)]
}
DIGIT_COUNTS = {"digit": "one", "number": "two"}
_PHRASES = {
    phrase: (fact, value)
    for fact, words in (("relation", RELATION_PHRASES), ("position", POSITION_PHRASES))
    for value, phrases in words.items()
    for phrase in phrases
}
_WORDS = {
    word: (fact, value)
    for fact, words in (("size", SIZE_WORDS), ("pattern", PATTERN_WORDS))
    for value, forms in words.items()
    for word in forms
} | {noun: ("digits", count) for noun, count in DIGIT_COUNTS.items()}
_SHEET = re.compile(rf"\bon (?:an? )?((?:\w+ )*?)(?:{'|'.join(SHEETS)})\b")


def _any_of(phrases: list[str]) -> re.Pattern[str]:
    longest_first = sorted(phrases, key=len, reverse=True)
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, longest_first))})\b")


_PHRASE, _NUMBER = _any_of(list(_PHRASES)), _any_of(list(NUMBERS))


def scene_tuples(caption: str) -> frozenset[tuple[str, ...]]:
    """Returns the facts a caption states, such as ``("ink", "blue")`` and ``("number", "42")``.

    A colour belongs to the sheet where it stands before ``paper``, ``sheet`` or ``page``, otherwise to the ink. A fact
    stated twice counts once; two values of one fact are two tuples, of which at most one can be true.

    Args:
        caption: Any text; what the grammar does not know states nothing.
    """
    text = " ".join(re.findall(r"\w+", caption.lower()))
    facts = {_PHRASES[phrase] for phrase in _PHRASE.findall(text)}
    text = _PHRASE.sub(";", text)  # their words, such as the "one" in "one digit written twice", say nothing else
    sheets = " ".join(_SHEET.findall(text)).split()
    facts |= {("paper", word) for word in sheets if word in COLOURS}
    rest = _SHEET.sub(";", text)
    facts |= {("ink", word) for word in rest.split() if word in COLOURS}
    facts |= {_WORDS[word] for word in (*sheets, *rest.split()) if word in _WORDS}
    facts |= {("number", NUMBERS[phrase]) for phrase in _NUMBER.findall(rest)}
    facts |= {("number", digits) for digits in re.findall(r"\b\d{1,2}\b", rest)}
    return frozenset(facts)
