"""What a run left is read whole, or refused by the name of its file."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.pipelines.reporting.nodes import measure_cost, summarize_runs
from gmail_kedro.reporting.finished_runs import read_runs
from gmail_kedro.reporting.report_figures import _planes, _samples
from gmail_kedro.reporting.report_files import (
    DamagedReportError,
    missing_steps,
    read_history,
    read_items,
    read_png,
    read_report,
)

from . import test_run_summary
from .reproductions import write_reproduction


@pytest.fixture
def history() -> pd.DataFrame:
    """As ``engine.loop`` leaves it: facts of the whole training stand in its last row."""
    whole = pd.DataFrame({"step": range(60), "loss": np.linspace(2, 1, 60), "seconds": np.arange(60.0)})
    whole.loc[0, "step_flops"] = 10.0
    whole.loc[59, "trainable_parameters"] = 1234.0
    return whole


@pytest.mark.parametrize("content", ["", '{"a": 1', "[1]", '{"a": ' * 100_000, "\x00\x01"])
def test_a_damaged_report_is_named(tmp_path: Path, content: str):
    path = tmp_path / "frozen-0" / "scores.json"
    path.parent.mkdir()
    path.write_text(content)
    with pytest.raises(DamagedReportError, match=rf"^{path} is damaged \(.*\); run frozen-0 again$"):
        read_report(path)
    with pytest.raises(DamagedReportError, match=str(path)):
        read_items(path)


def test_what_is_not_there_is_none(tmp_path: Path):
    assert read_report(tmp_path / "a") is read_items(tmp_path / "a") is read_history(tmp_path / "a") is None


def test_a_whole_history_comes_back(history: pd.DataFrame, tmp_path: Path):
    history.to_csv(tmp_path / "a.csv", index=False)
    pd.testing.assert_frame_equal(read_history(tmp_path / "a.csv"), history)
    pd.DataFrame([]).to_csv(tmp_path / "empty.csv", index=False)
    assert read_history(tmp_path / "empty.csv") is None


@pytest.mark.parametrize("kept", [30, 59])
def test_a_history_that_was_cut_has_no_cost(history: pd.DataFrame, kept: int, tmp_path: Path):
    nothing = pd.DataFrame([])
    assert measure_cost(history, nothing, nothing)["total"]["scores"]["steps"] == 60
    with pytest.raises(ValueError, match=rf"^The run's captioner_history.csv is not whole: it ends at row {kept}"):
        measure_cost(history, history.head(kept), nothing)
    (tmp_path / "a.csv").write_text("".join(history.to_csv(index=False).splitlines(keepends=True)[: kept + 1]))
    with pytest.raises(DamagedReportError, match=rf"a\.csv is damaged \(it ends at row {kept}, which is not the last"):
        read_history(tmp_path / "a.csv")


def test_a_history_cut_inside_a_line_or_without_rows_between_is_refused(history: pd.DataFrame, tmp_path: Path):
    (tmp_path / "a.csv").write_text(history.to_csv(index=False)[:-3])
    with pytest.raises(DamagedReportError, match="its last line has no end"):
        read_history(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("")  # not the table without rows and columns, which is a line
    with pytest.raises(DamagedReportError, match="it is empty"):
        read_history(tmp_path / "a.csv")
    assert "not the steps 0 to 58" in missing_steps(history.drop(index=7))


def test_the_page_goes_without_a_damaged_run(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write_reproduction(tmp_path)
    whole = [run.name for run in read_runs(tmp_path / "repro")]
    (tmp_path / "repro/gmail-0/gap.json").write_text("{")
    assert [run.name for run in read_runs(tmp_path / "repro")] == [name for name in whole if name != "gmail"]
    assert "The figures go without a run: " in caplog.text and "gmail-0/gap.json is damaged" in caplog.text


def test_the_summary_goes_without_a_damaged_run():
    scores = test_run_summary.scores.__wrapped__()
    scores["protocol"]["seed"] = 0

    def cut() -> dict:
        raise ValueError("Unterminated string")

    text = summarize_runs({"bad": cut, "odd": lambda: [], "good": lambda: scores, "main": cut}, scores, "main")
    assert "Left out: bad, its scores.json is damaged: Unterminated string." in text
    assert "Left out: odd, its scores.json is damaged: it has no protocol." in text
    assert "| good | " in text and "| bad |" not in text


def test_a_figure_with_a_changed_byte_is_not_shown(tmp_path: Path):
    write_reproduction(tmp_path)
    plane = tmp_path / "repro/gmail-0/tsne.png"
    (sheet, *_) = (tmp_path / "sets").glob("*/samples.png")
    for path, shown in (
        (plane, lambda: _planes(read_runs(tmp_path / "repro"), ["gmail"])),
        (sheet, lambda: _samples(tmp_path / "sets")),
    ):
        assert shown()[0].data and not shown()[0].missing
        whole = path.read_bytes()
        assert read_png(path).size[0] > 0
        changed = bytearray(whole)
        changed[len(whole) // 2] ^= 1
        for damage in (bytes(changed), whole[: len(whole) // 2], b""):
            path.write_bytes(damage)
            assert shown()[0].missing.startswith(f"{path} is damaged (") and not shown()[0].data
