"""The lock of a run: one holder, named to the others, and gone with its process."""

import contextlib
import os
import re
import signal
import socket
import time

import pytest

from gmail_kedro.engine.run_lock import hold_run

from ..forking import fork


@pytest.fixture
def holder(tmp_path):
    """A process that holds the run ``main``, and the lock file."""
    path = tmp_path / "locks/main.lock"

    def hold():
        with hold_run(path, "main"):
            time.sleep(60)

    child = fork(hold)
    while not (path.is_file() and path.read_text()):
        time.sleep(0.01)
    yield child, path
    with contextlib.suppress(ChildProcessError):  # it is dead already
        os.waitpid(child, os.WNOHANG)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_the_second_is_told_who_holds_it(holder):
    child, path = holder
    told = rf"'main' is being written by process {child} on {re.escape(socket.gethostname())} since \d{{4}}-\d\d-\d\d "
    with pytest.raises(RuntimeError, match=told + ".*run_id="), hold_run(path, "main"):
        raise AssertionError("held twice")
    with hold_run(path.with_name("other.lock"), "other"):
        pass


def test_a_dead_process_holds_nothing(holder, tmp_path):
    child, path = holder
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with hold_run(path, "main"):
        assert f"process {os.getpid()} on" in path.read_text() and str(child) not in path.read_text()
    assert path.read_text() == ""


def test_it_is_given_back_whatever_happens(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), hold_run(tmp_path / "main.lock", "main"):
            raise KeyboardInterrupt
