"""`kedro run --params` is read by the parser of `gmail-kedro`."""

import click
import pytest
from click.testing import CliRunner

from gmail_kedro import cli

STRINGS = {
    "run_id=007,set=2026_11_27": {"run_id": "007", "set": "2026_11_27"},
    "generation.negative_prompt=blurry, low quality": {"generation": {"negative_prompt": "blurry, low quality"}},
    "generation.prompt_template={} in watercolor": {"generation": {"prompt_template": "{} in watercolor"}},
    "": {},
}


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    seen: list[dict] = []
    monkeypatch.setattr(cli.run, "callback", lambda **options: seen.append(options))
    return seen


@pytest.mark.parametrize("text", STRINGS)
def test_params_are_read_letter_by_letter(started: list[dict], text: str):
    finished = CliRunner().invoke(cli.cli, ["run", "--pipelines=a,b", "--params", text])
    assert finished.exit_code == 0, finished.output
    assert started[0]["params"] == STRINGS[text] and started[0]["pipelines"] == ["a", "b"]


def test_what_cannot_be_read_is_a_usage_error_of_one_sentence(started: list[dict]):
    finished = CliRunner().invoke(cli.cli, ["run", "--params", "low quality"])
    assert finished.exit_code == 2 and started == []
    assert "Error: --params must be name=value, with commas between. Got 'low quality' instead." in finished.output


def test_the_file_of_a_run_goes_through(started: list[dict], tmp_path):
    (tmp_path / "run.yml").write_text("run: {params: {generation: {negative_prompt: 'blurry, low quality'}}}")
    finished = CliRunner().invoke(cli.cli, ["run", "--config", str(tmp_path / "run.yml")])
    assert finished.exit_code == 0, finished.output
    assert started[0]["params"] == {"generation": {"negative_prompt": "blurry, low quality"}}


def test_kedros_own_command_is_left_as_it_is():
    from kedro.framework.cli.project import run

    assert isinstance(run, click.Command) and run is not cli.run
    assert [option.name for option in run.params] == [option.name for option in cli.run.params]
    assert all(option.callback is not cli._parse for option in run.params)
