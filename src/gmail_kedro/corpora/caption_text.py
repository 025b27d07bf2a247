"""Captions as people and the web write them, made one line of text each, or refused.

One home for the rules, so that a caption is the same whatever the layout that brings it.
"""

import ast
import io
import json
import re
import tokenize
from contextlib import suppress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.corpora.text_files import to_utf8
from gmail_kedro.interfaces import IMAGE_MARK

Captions = list[tuple[int, bytes | None]]

# RE2's \s leaves out what Python's str.split takes for white space; both must agree on what is one word.
WHITE_SPACE = r"[\s\pZ\x{b}\x{1c}-\x{1f}\x{85}]+"
VISIBLE = r"[^\s\pZ\pC]"  # a byte order mark or a zero-width space alone says nothing
WORD = r"[\pL\p{Nd}]"
NOT_IN_PTB = r"[\x{10000}-\x{10ffff}]"  # the Penn Treebank tokenizer drops all of these: emoji, letters of mathematics
ADJACENT = re.compile(r"""['"]\s+['"]""")  # NumPy writes no commas, and Python joins what stands side by side


def without_image_marks(text: str) -> str:
    """Returns a text without ``<image>``: a vision-language model would make room for another image at each."""
    return re.sub(rf"\s*{IMAGE_MARK}\s*", " ", text).strip() if IMAGE_MARK in text else text


def clean_captions(texts: pa.Array) -> pa.Array:
    """Returns captions, nulls among them, without ``<image>`` and with all white space as single spaces."""
    unmarked = pc.replace_substring(texts, pattern=IMAGE_MARK, replacement=" ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(unmarked, pattern=WHITE_SPACE, replacement=" "))


def caption_faults(texts: pa.Array) -> dict[str, pa.Array]:
    """Returns which of some clean captions cannot be used, by reason: one boolean a caption; at most one is true.

    A caption needs a letter or a digit that both tokenizers of the caption metrics take for a word: a reference
    without one cannot be scored.
    """
    has_nul = pc.fill_null(pc.match_substring(texts, "\0"), False)
    is_visible = pc.match_substring_regex(texts, VISIBLE)
    tokenized = pc.replace_substring_regex(texts, pattern=NOT_IN_PTB, replacement="")
    has_words = pc.match_substring_regex(tokenized, WORD)
    return {
        "no caption": pc.is_null(texts),
        "blank caption": pc.and_not(pc.invert(pc.fill_null(is_visible, True)), has_nul),
        "caption without words": pc.and_not(pc.fill_null(pc.and_not(is_visible, has_words), False), has_nul),
        "caption with a NUL character": has_nul,
    }


def encode_text(text: str | None) -> bytes | None:
    """Returns a text of JSON as bytes; half a character becomes bytes that ``decode_texts`` tells apart."""
    # "\ud83d" alone is valid JSON, and Arrow would stop at such a string among a million others.
    return None if text is None else text.encode(errors="surrogatepass")


def decode_texts(column: pa.Array) -> tuple[pa.Array, list[int]]:
    """Returns a column of bytes or strings as strings, and the positions that are not UTF-8, which become null."""
    try:
        return column.cast(pa.large_string()), []
    except pa.ArrowInvalid:  # says that something is wrong, but not where
        decoded, bad = [], []
        for position, value in enumerate(column.to_pylist()):
            try:
                decoded.append(value.decode("utf-8") if isinstance(value, bytes) else value)
            except UnicodeDecodeError:
                decoded.append(None)
                bad.append(position)
        return pa.array(decoded, pa.large_string()), bad


def read_written_list(text: str) -> list[str | None] | None:
    """Returns the texts of a list that was written out, None among them; None if the text is no such list.

    Example:
        >>> read_written_list("['a cat' 'a dog']"), read_written_list("[sic] a cat")
        (['a cat', 'a dog'], None)
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, _python_list):  # json.dumps and pandas.to_csv write such cells
        try:
            items = parse(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, tokenize.TokenError):
            continue
        is_texts = isinstance(items, list) and all(item is None or isinstance(item, str) for item in items)
        return items if is_texts else None
    return None


def _python_list(text: str) -> Any:
    if not ADJACENT.search(text):
        return ast.literal_eval(text)
    tokens = tokenize.generate_tokens(io.StringIO(text[1:-1]).readline)
    words = [token.string for token in tokens if token.string.strip() and token.string != ","]
    return [ast.literal_eval(word) for word in words]


def caption_lines(content: bytes) -> Captions:
    """Returns the captions of a text file, each with its place: the lines that are not blank, or a list written out.

    Lines are not decoded: what is no UTF-8 is counted with the captions.
    """
    with suppress(ValueError):
        content = to_utf8(content, what="text")
    with suppress(UnicodeDecodeError):
        if listed := read_written_list(content.decode()):
            return _numbered(listed)
    lines = content.splitlines()
    return [(number, line) for number, line in enumerate(lines) if line.strip()]


def json_captions(content: bytes, key: str) -> Captions:
    """Returns the caption under a key of a JSON object, or each of a list of them with its place.

    Raises:
        ValueError: If there is none, or one is no text; the message is the reason it is counted under.
    """
    try:
        found = json.loads(content)[key]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if found in (None, []):
        raise ValueError(f"json without a caption {key!r}")
    written = read_written_list(found) if isinstance(found, str) else None
    listed = found if isinstance(found, list) else written or [found]
    if any(not isinstance(caption, str | None) for caption in listed):
        raise ValueError(f"json whose caption {key!r} is neither text nor a list of texts")
    return _numbered(listed)


def _numbered(captions: list[str | None]) -> Captions:
    return list(enumerate(map(encode_text, captions)))
