"""Reliability test 32: what nobody may read does not get into a record, and what looks like it does."""

import pytest

from gmail_kedro.redaction import is_secret, redact, redact_values

TOKEN = "hf_" + "aB3" * 10


@pytest.mark.reliability(32)
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:word@example.org/mlflow", "https://***@example.org/mlflow"),
        ("postgresql://me@db/mlflow and http://a:b@c", "postgresql://***@db/mlflow and http://***@c"),
        (f"downloaded with {TOKEN}.", "downloaded with ***."),
        ("ghp_" + "x" * 36, "***"),
        ("{'token': 'abc', 'steps': 3}", "{'token': '***', 'steps': 3}"),
        ("api_key=abc&page=2", "api_key=***&page=2"),
        ("db_password: abc", "db_password: ***"),
    ],
)
def test_secrets_are_hidden(text: str, shown: str):
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "sqlite:////data/mlflow.db",
        "max_tokens: 32, caption_end: end_token, caption_tokenizer=simple",
        "mail me@example.org",
        "token=None",
        "the key of a secret door",
        "image_token: <image>",
    ],
)
def test_what_is_no_secret_stays(text: str):
    assert redact(text) == text


@pytest.mark.reliability(32)
def test_values_under_secret_names_are_hidden_however_deep():
    values = {"a": {"password": 1, "list": [TOKEN, 2]}, "max_tokens": 3, "secret": None}
    assert redact_values(values) == {"a": {"password": "***", "list": ["***", 2]}, "max_tokens": 3, "secret": None}
    assert is_secret("generation.hub_token") and not is_secret("generation.max_prompt_tokens")
