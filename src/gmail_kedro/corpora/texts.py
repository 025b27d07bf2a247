"""Captions as people and the web write them, made one line of text each, or refused."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from gmail_kedro.interfaces import IMAGE_MARK

WHITE_SPACE = r"[\s\pZ\x{b}\x{1c}-\x{1f}\x{85}]+"
VISIBLE = r"[^\s\pZ\pC]"  # a byte order mark or a zero-width space alone says nothing
WORD = r"[\pL\p{Nd}]"
NOT_IN_PTB = r"[\x{10000}-\x{10ffff}]"  # the Penn Treebank tokenizer drops all of these: emoji, letters of mathematics


def without_image_marks(text: str) -> str:
    """Returns a text without ``<image>``: a vision-language model would take each for a place of a picture.

    Args:
        text: A question, an answer, or what else goes to a language model.
    """
    return re.sub(rf"\s*{IMAGE_MARK}\s*", " ", text).strip() if IMAGE_MARK in text else text


def clean_captions(texts: pa.Array) -> pa.Array:
    """Returns captions without ``<image>``, as ``without_image_marks``, and with all white space as single spaces.

    Args:
        texts: Strings, nulls among them.
    """
    unmarked = pc.replace_substring(texts, pattern=IMAGE_MARK, replacement=" ")
    return pc.utf8_trim_whitespace(pc.replace_substring_regex(unmarked, pattern=WHITE_SPACE, replacement=" "))


def caption_faults(texts: pa.Array) -> dict[str, pa.Array]:
    """Returns which captions cannot be used, by reason; a caption has one reason at most.

    A caption needs a letter or a digit that both tokenizers of the caption metrics take for a word: a reference
    without one cannot be scored.

    Args:
        texts: Strings as ``clean_captions`` returns them, nulls among them.

    Returns:
        For each reason one boolean a caption, without nulls.
    """
    absent = pc.is_null(texts)
    has_nul = pc.fill_null(pc.match_substring(texts, "\0"), False)
    is_visible = pc.match_substring_regex(texts, VISIBLE)
    tokenized = pc.replace_substring_regex(texts, pattern=NOT_IN_PTB, replacement="")
    has_words = pc.match_substring_regex(tokenized, WORD)
    return {
        "no caption": absent,
        "blank caption": pc.and_not(pc.invert(pc.fill_null(is_visible, True)), has_nul),
        "caption without words": pc.and_not(pc.fill_null(pc.and_not(is_visible, has_words), False), has_nul),
        "caption with a NUL character": has_nul,
    }


def encode_text(text: str | None) -> bytes | None:
    """Returns a text as bytes; half a character (a lone surrogate) becomes bytes that ``decode_texts`` tells apart.

    Args:
        text: As JSON gives it.
    """
    return None if text is None else text.encode(errors="surrogatepass")


def decode_texts(column: pa.Array) -> tuple[pa.Array, list[int]]:
    """Returns a column of bytes as strings, and the positions of those that are not UTF-8, which become null.

    Args:
        column: Bytes or strings, nulls among them.
    """
    try:
        return column.cast(pa.large_string()), []
    except pa.ArrowInvalid:
        decoded, bad = [], []
        for position, value in enumerate(column.to_pylist()):
            try:
                decoded.append(value.decode("utf-8") if isinstance(value, bytes) else value)
            except UnicodeDecodeError:
                decoded.append(None)
                bad.append(position)
        return pa.array(decoded, pa.large_string()), bad
