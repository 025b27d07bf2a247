"""Training state on disk: whatever happens to it, training goes on exactly or says why it cannot."""

import os
import resource
import shutil

import pytest
import torch

from gmail_kedro import whole_files
from gmail_kedro.engine.checkpoint import Checkpoint, Checkpoints
from gmail_kedro.whole_files import DamagedFileError

from .test_loop import STEPS, fit, problem

STATE, PREVIOUS = "state.safetensors", "state.previous.safetensors"


class Killed(BaseException):
    """Stands for the end of the process: nothing may be tidied up on its way."""


def train(folder, *, every=2, stop_at=None, fingerprint=None, meanwhile=lambda index: None):
    """Trains until ``stop_at``; returns the weights and the history."""
    model, step, optimizer, schedule = problem()
    torch.manual_seed(7)

    def guarded(index):
        if index == stop_at:
            raise Killed
        meanwhile(index)
        return step(index)

    checkpoint = Checkpoint(folder / STATE, fingerprint or {"run": "a"}, every)
    history = fit(guarded, optimizer, schedule, steps=STEPS, clip_norm=1.0, checkpoint=checkpoint)
    return [parameter.detach() for parameter in model.parameters()], history


@pytest.fixture
def straight(tmp_path):
    """The weights of a training that nothing happened to."""
    return train(tmp_path / "straight")[0]


def equal(first, second):
    return all(torch.equal(left, right) for left, right in zip(first, second, strict=True))


def cut(path):
    path.write_bytes(path.read_bytes()[:-10])


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGES = [cut, empty, flip_a_bit]


@pytest.mark.reliability(19)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_said_and_the_one_before_it_taken(damage, straight, tmp_path, caplog):
    with pytest.raises(Killed):
        train(tmp_path, stop_at=7)
    damage(tmp_path / STATE)
    taken = []
    resumed, history = train(tmp_path, meanwhile=taken.append)
    assert f"{STATE} is damaged: the one before is taken, after step 4" in caplog.text
    assert equal(resumed, straight) and len(history.rows) == STEPS and taken[0] == 4


@pytest.mark.reliability(19)
@pytest.mark.parametrize("damage", DAMAGES)
def test_without_a_whole_state_the_files_are_named_and_the_advice_works(damage, straight, tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, stop_at=7)
    for name in (STATE, PREVIOUS):
        damage(tmp_path / name)
    with pytest.raises(DamagedFileError, match=f"{STATE} .*afresh, delete .*{STATE} and .*{PREVIOUS}"):
        train(tmp_path)
    for name in (STATE, PREVIOUS):
        (tmp_path / name).unlink()
    assert equal(train(tmp_path)[0], straight)


@pytest.mark.reliability(19)
@pytest.mark.parametrize("call", [("replace", 1), ("flush", 1), ("replace", 2), ("flush", 2)])
def test_killed_while_writing_the_state_before_is_there(call, straight, tmp_path, monkeypatch):
    """The moments: before anything, with the file written, with the old one renamed, with both renamed."""
    name, number = call
    owner = os if name == "replace" else whole_files
    work, calls = getattr(owner, name), []

    def kill(*arguments):
        calls.append(arguments)
        if len(calls) == number:
            raise Killed
        return work(*arguments)

    def writing(index):
        if index == 5:  # the third state is written after it
            monkeypatch.setattr(owner, name, kill)

    with pytest.raises(Killed):
        train(tmp_path, meanwhile=writing)
    monkeypatch.undo()
    taken = []
    assert equal(train(tmp_path, meanwhile=taken.append)[0], straight)
    assert taken[0] in (4, 6)
    assert {path.name for path in tmp_path.iterdir()} == {"straight", STATE, PREVIOUS}


@pytest.mark.reliability(19)
def test_a_state_of_another_run_is_refused_by_the_key_that_differs(straight, tmp_path):
    with pytest.raises(Killed):
        train(tmp_path, stop_at=7)
    with pytest.raises(ValueError, match=f"lora_rank was None and is now '8'.*delete .*{STATE} and .*{PREVIOUS}"):
        train(tmp_path, fingerprint={"run": "a", "lora_rank": "8"})
    assert equal(train(tmp_path)[0], straight)


@pytest.mark.reliability(5)
def test_a_full_disk_ends_in_one_sentence_and_the_run_goes_on_later(straight, tmp_path):
    def fill_the_disk(index):
        if index == 5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(OSError, match=f"{STATE} cannot be written .*the same command then goes on"):
            train(tmp_path, meanwhile=fill_the_disk)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert not list(tmp_path.rglob("*.partial"))  # what would keep the disk full
    taken = []
    assert equal(train(tmp_path, meanwhile=taken.append)[0], straight) and taken[0] == 4


@pytest.mark.reliability(5)
def test_a_folder_that_cannot_be_written_ends_in_one_sentence(straight, tmp_path):
    def put_a_file_in_its_place(index):
        if index == 5:
            (tmp_path / "run").rename(tmp_path / "kept")
            (tmp_path / "run").touch()

    with pytest.raises(OSError, match=f"{STATE} cannot be written"):
        train(tmp_path / "run", meanwhile=put_a_file_in_its_place)
    (tmp_path / "run").unlink()
    (tmp_path / "kept").rename(tmp_path / "run")
    assert equal(train(tmp_path / "run")[0], straight)


@pytest.mark.reliability(5)
def test_a_folder_that_is_removed_is_made_again(straight, tmp_path):
    removed, _ = train(tmp_path / "run", meanwhile=lambda index: index == 5 and shutil.rmtree(tmp_path / "run"))
    assert equal(removed, straight) and (tmp_path / "run" / STATE).is_file()


@pytest.mark.reliability(20)
def test_a_training_that_stops_at_losses_that_are_no_numbers_keeps_the_last_good_state(straight, tmp_path, monkeypatch):
    monkeypatch.setattr("gmail_kedro.engine.loop.NAN_LIMIT", 2)
    model, step, optimizer, schedule = problem()
    torch.manual_seed(7)

    def breaks(index):
        return {"loss": step(index)["loss"] * (float("inf") if index >= 4 else 1)}

    checkpoint = Checkpoint(tmp_path / STATE, {"run": "a"}, every=4)
    with pytest.raises(FloatingPointError, match="3 steps had a loss .* the last checkpoint is kept"):
        fit(breaks, optimizer, schedule, steps=STEPS, clip_norm=1.0, checkpoint=checkpoint)
    assert equal(train(tmp_path)[0], straight)


def test_the_states_of_one_process_are_removed_together_and_no_others(tmp_path):
    mine, other = Checkpoints(tmp_path), Checkpoints(tmp_path)
    for checkpoint in (mine.open("one", {}, every=1), other.open("two", {}, every=1)):
        _, step, optimizer, schedule = problem()
        fit(step, optimizer, schedule, steps=3, clip_norm=1.0, checkpoint=checkpoint)
    assert len(list(tmp_path.iterdir())) == 4
    mine.remove_opened()
    assert {path.name for path in tmp_path.iterdir()} == {"two.safetensors", "two.previous.safetensors"}
