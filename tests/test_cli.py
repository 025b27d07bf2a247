"""`kedro run --params` is read by the parser of `gmail-kedro`, whose commands are those of `kedro gmail`."""

import click
import pytest
from click.testing import CliRunner

from gmail_kedro import cli
from gmail_kedro.commands import main

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


def test_the_commands_of_gmail_kedro_are_a_group_beside_kedros_own():
    assert set(cli.cli.commands) == {"run", "gmail"}
    shown = CliRunner().invoke(cli.cli, ["gmail", "--help"])
    named = {"demo", "compare", "run", "table", "study", "links", "import-runs", "code", "preflight", "convert", "set"}
    assert shown.exit_code == 0 and all(f"  {name} " in shown.output for name in named)
    assert cli.cli.commands["gmail"].commands.keys() == named
    looks = {"make", "verify", "regenerate", "subset", "stats", "sheet", "card"}
    assert cli.cli.commands["gmail"].commands["set"].commands.keys() == looks


def test_what_a_command_finds_wrong_is_its_exit_code_either_way(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(cli.cli, ["gmail", "set", "stats", "none"]).exit_code == 1
    assert main(["set", "stats", "none"]) == 1
    assert caplog.text.count("FileNotFoundError: No Kedro project here. Change into the folder") == 2
    assert main(["set", "stats"]) == 2 and main(["nothing"]) == 2 and main(["--help"]) == 0
