"""Files of a profile are plain data of a bounded size; anything else is refused with its place."""

import time
from pathlib import Path

import pytest

from gmail_kedro.configuration.files import read_file
from gmail_kedro.params.base import ParameterError

BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    + [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]" for level in range(1, 10)]
)


@pytest.mark.reliability(27)
@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("run:\n  seed: !!python/object/apply:os.system [echo]", "f.yml, line 2: this is no plain YAML .*os.system"),
        ("run: !!python/name:os.system", "f.yml, line 1: this is no plain YAML .*os.system"),
        ("run: !Ref x", "f.yml, line 1: this is no plain YAML .*!Ref"),
        (BOMB, "line 5: its anchors repeat one another, .* to more than 100,000 values"),
        ("a: &a [*a]", "line 1: its anchors repeat one another, or themselves"),
        ("a: !!set {b}", "f.yml: this is no plain YAML"),
        ("a: !!timestamp 2026-11-28", "f.yml: this is no plain YAML"),
        ("run:\n  device: ${oc.env:HOME}", "f.yml: run.device must not refer to 'oc.env'"),
        ("a: ['${now:x}']", "f.yml: a.0 must not refer to 'now'"),
        ("a: [1", "f.yml, line 2: this is no plain YAML"),
        ("a: 1\na: 2", "f.yml.*this is no plain YAML.*duplicate key"),
    ],
)
def test_what_is_no_plain_data_is_refused_at_its_place(tmp_path: Path, text: str, told: str):
    (tmp_path / "f.yml").write_text(text)
    begun = time.monotonic()
    with pytest.raises(ParameterError, match=told):
        read_file(tmp_path / "f.yml", "f.yml")
    assert time.monotonic() - begun < 2


def test_bytes_that_are_no_utf8_are_refused(tmp_path: Path):
    (tmp_path / "f.yml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ParameterError, match="f.yml: this is no plain YAML"):
        read_file(tmp_path / "f.yml", "f.yml")


def test_a_file_that_was_changed_is_read_again(tmp_path: Path):
    file = tmp_path / "f.yml"
    file.write_text("a: &x {b: 1e-3}\nc: {<<: *x, d: '${globals:set}'}")
    assert read_file(file, "f.yml") == {"a": {"b": 0.001}, "c": {"b": 0.001, "d": "${globals:set}"}}
    file.write_text("{}")
    assert read_file(file, "f.yml") == {}
