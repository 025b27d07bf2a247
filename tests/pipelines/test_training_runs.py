"""Training through real sessions when something goes wrong: nothing that was trained is lost."""

from pathlib import Path

import pytest

from gmail_kedro.engine import loop

MODELS, REPORTS = "data/06_models", "data/08_reporting"


@pytest.fixture
def steps(monkeypatch) -> list[int]:
    """The steps that are taken, by any training."""
    taken, take = [], loop._take_step

    def counted(step, index, *args):
        taken.append(index)
        return take(step, index, *args)

    monkeypatch.setattr(loop, "_take_step", counted)
    return taken


def put_in_the_way(path: Path) -> None:
    """Where a file is to be written is a folder, and the other way round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir() if path.suffix == ".csv" else path.touch()


@pytest.mark.reliability(5)
def test_what_could_not_be_stored_is_stored_later_and_not_trained_again(project, run_in, monkeypatch, steps):
    monkeypatch.chdir(project)
    models, reports = project / MODELS / "unstored", project / REPORTS / "unstored"
    for pipeline, state, in_the_way, left in (
        ("align", "alignment", models / "adapter.unfinished", 0),
        ("downstream", "captioner", reports / "captioner_history.csv", 4),  # the text tower's, which came after
    ):
        put_in_the_way(in_the_way)
        with pytest.raises(Exception, match=in_the_way.stem):
            run_in(project, pipeline, run_id="unstored")
        assert (models / f"checkpoints/{state}.safetensors").is_file() and len(steps) > 4
        in_the_way.rmdir() if in_the_way.is_dir() else in_the_way.unlink()
        steps.clear()
        run_in(project, pipeline, run_id="unstored")
        assert len(steps) == left and not list((models / "checkpoints").iterdir())
    for name in ("adapter/adapter_model.safetensors", "captioner/prefix_mapper.safetensors"):
        assert (models / name).read_bytes() == (project / MODELS / "main" / name).read_bytes()
