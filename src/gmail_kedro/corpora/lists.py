"""Lists of captions that were written out as text: as JSON, Python or NumPy prints them."""

import ast
import io
import json
import re
import tokenize
from typing import Any

ADJACENT = re.compile(r"""['"]\s+['"]""")  # NumPy writes no commas, and Python joins what stands side by side


def read_written_list(text: str) -> list[str | None] | None:
    """Returns the texts of a list that was written out, None among them; None if the text is no such list.

    Args:
        text: ``["a cat", "a dog"]``, ``['a cat', None]`` or ``['a cat' 'a dog']``.

    Example:
        >>> read_written_list("['a cat' 'a dog']"), read_written_list("[sic] a cat")
        (['a cat', 'a dog'], None)
    """
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")):
        return None
    for parse in (json.loads, _python_list):
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
