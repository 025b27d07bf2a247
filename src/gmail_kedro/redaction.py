"""What nobody may read in a record: passwords in addresses, tokens, and values under names that say so."""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
SECRET_NAME = (
    r"(?:\w*_)?(?:(?:hf|hub|auth|access|api|bearer|refresh|session)_token|password|passwd|secret"
    r"|(?:secret|api|private|access)_key)|token"
)
_IS_SECRET = re.compile(rf"(?:.*\.)?(?:{SECRET_NAME})", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=://)[^\s/@'\"]+(?=@)")
_TOKEN = re.compile(r"\b(?:hf|ghp|gho|ghs|github_pat|glpat|sk|xox[abp])[-_][A-Za-z0-9_-]{16,}|\bAKIA[0-9A-Z]{16}\b")
_NAMED = re.compile(
    rf"(?P<name>(?<!\w)(?:{SECRET_NAME})['\"]?\s*[:=]\s*)(?P<quote>['\"]?)(?!None\b|null\b)[^\s'\",;&)}}]+",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Says whether a parameter's name says that its value is nobody's business.

    Example:
        >>> is_secret("hub.hf_token"), is_secret("caption_tokens"), is_secret("image_token")
        (True, False, False)
    """
    return _IS_SECRET.fullmatch(name) is not None


def redact(text: str) -> str:
    """Returns a text with its secrets hidden.

    Example:
        >>> redact("https://user:word@example.org/mlflow")
        'https://***@example.org/mlflow'
    """
    text = _TOKEN.sub(HIDDEN, _IN_ADDRESS.sub(HIDDEN, text))
    return _NAMED.sub(rf"\g<name>\g<quote>{HIDDEN}", text)


def redact_values(value: Any) -> Any:
    """Returns nested mappings and lists with the secrets in their texts, and under names that say so, hidden."""
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if is_secret(str(key)) and inner is not None else redact_values(inner)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return type(value)(redact_values(inner) for inner in value)
    return redact(value) if isinstance(value, str) else value
