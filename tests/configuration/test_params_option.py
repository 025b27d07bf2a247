"""`--params` says what was written: text letter by letter, everything else as the type it is declared with."""

import pytest

from gmail_kedro.configuration.params_option import nest, parse_settings
from gmail_kedro.params.base import ParameterError

NEGATIVE, TEMPLATE = "generation.negative_prompt", "generation.prompt_template"


@pytest.mark.parametrize("name", ["run_id", "set", "baseline"])
@pytest.mark.parametrize(
    "written",
    ["2026_11_27", "007", "12:30", "on", "5e12345", "7e99999", "null", "1.0", "run_1", "0x1f", "~", "2024-01-02"],
)
def test_a_name_is_what_was_written(name: str, written: str):
    assert parse_settings(f"{name}={written}") == {name: written}
    assert parse_settings(f"{name}='{written}'") == {name: written}


@pytest.mark.parametrize(
    "written",
    [f"{mark} {{}}" for mark in "[{*%@!'`&-?|>#\""]
    + [
        "{} in watercolor",
        "a painting of {}",
        "x #1 {}",
        "a: {}",
        "&a {}",
        "yes {}",
        "'a' {} 'b'",
        "4e0 {}",
        "{}, low",
    ],
)
def test_a_template_is_what_was_written(written: str):
    assert parse_settings(f"{TEMPLATE}={written},generation.seed=3") == {TEMPLATE: written, "generation.seed": 3}


def test_a_comma_begins_a_setting_only_before_a_name():
    expected = {NEGATIVE: "blurry, low quality", "generation.steps": 4}
    assert parse_settings(f"{NEGATIVE}=blurry, low quality,generation.steps=4") == expected
    assert parse_settings(f"{NEGATIVE}='blurry, low quality', generation.steps=4") == expected
    assert parse_settings(f'{NEGATIVE}="a, b=c"') == {NEGATIVE: "a, b=c"}
    assert parse_settings(f"{NEGATIVE}='it''s, x=1'") == {NEGATIVE: "it's, x=1"}
    assert parse_settings("evaluation.class_sets=[dtd, sun397],run_id=x") == {
        "evaluation.class_sets": ["dtd", "sun397"],
        "run_id": "x",
    }


def test_words_of_yaml_stay_text_and_null_is_null_where_it_may_be():
    assert parse_settings(f"{NEGATIVE}=yes") == {NEGATIVE: "yes"} and parse_settings(f"{NEGATIVE}=") == {NEGATIVE: ""}
    assert parse_settings("generation.scheduler=null,run.encoder=null") == {
        "generation.scheduler": None,
        "run.encoder": "null",
    }
    assert parse_settings("generation.scheduler='null'") == {"generation.scheduler": "null"}


@pytest.mark.parametrize(
    ("written", "value"), [("4e0", 4.0), ("1e-3", 0.001), ("5", 5), ("1_000", 1000), ("true", True), ("null", None)]
)
def test_numbers_are_read_as_kedro_reads_them(written: str, value: object):
    found = parse_settings(f"generation.guidance={written}")["generation.guidance"]
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("low quality", "must be name=value"),
        ("=3", "must be name=value"),
        ("run_id=a,run_id=b", "run_id twice"),
        ("generation.steps=[1", r"generation\.steps cannot be read as YAML"),
        (f'{NEGATIVE}="\\q"', rf"{NEGATIVE} cannot be read as YAML"),
        (f"{NEGATIVE}=${{oc.env:HOME}}", f"{NEGATIVE} must not contain"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text: str, told: str):
    with pytest.raises(ParameterError, match=told):
        parse_settings(text)


def test_names_with_dots_are_nested():
    assert nest({"a.b": 1, "a.c": 2, "d": 3}) == {"a": {"b": 1, "c": 2}, "d": 3}
    with pytest.raises(ParameterError, match="a.b and a cannot both be set"):
        nest({"a": 1, "a.b": 2})
