"""kill -9 at every write, rename and batch of a run: after resuming, the set is that of an uninterrupted run."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gmail_kedro.records import shards
from gmail_kedro.records.generate import generate_shards

from .painting import Painter, folder_bytes, make_work

BATCH_SIZE = 3
PLAN = {"image_count": 5, "shard_size": 7, "batch_size": BATCH_SIZE}  # two shards of a batch and two thirds
MOMENTS = 20  # 4 batches, 8 writes, before and after each of 4 renames


class Tripwire:
    """Counts the moments at which a run can die, and dies at one of them."""

    def __init__(self, deadly: int) -> None:
        self.deadly, self.count = deadly, 0

    def tick(self) -> None:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: object) -> None:
            self.tick()
            call(*args)
            self.tick()

        return wrapped

    def torn_write(self, file, offset: int, content: bytes) -> None:
        half = len(content) // 2
        self._write(file, offset, content[:half])
        self.tick()
        self._write(file, offset + half, content[half:])

    def set_up(self, patch: Callable[[object, str, object], None]) -> None:
        self._write = shards._write_at
        patch(shards, "_write_at", self.torn_write)
        patch(os, "replace", self.around(os.replace))


def run_until_killed(folder: Path, log: Path, deadly: int) -> int:
    """Returns the signal that ended a run in a process of its own."""
    child = os.fork()
    if child == 0:
        try:
            wire = Tripwire(deadly)
            wire.set_up(setattr)
            generate_shards(make_work(painter=Painter(log, wire.tick), **PLAN), folder)
        finally:
            os._exit(1)  # never reached by a run that is killed
    return os.WTERMSIG(os.waitpid(child, 0)[1])


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("reference")
    generate_shards(make_work(**PLAN), folder)
    return folder_bytes(folder)


def test_the_moments_are_all_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Tripwire(deadly=0)
    wire.set_up(monkeypatch.setattr)
    generate_shards(make_work(painter=Painter(before=wire.tick), **PLAN), tmp_path)
    monkeypatch.undo()
    assert wire.count == MOMENTS


@pytest.mark.parametrize("deadly", range(1, MOMENTS + 1))
def test_a_killed_run_resumes_to_the_same_bytes(deadly: int, reference: dict[str, bytes], tmp_path: Path) -> None:
    folder, log = tmp_path / "set", tmp_path / "log"
    log.touch()
    assert run_until_killed(folder, log, deadly) == signal.SIGKILL
    left = folder_bytes(folder)
    if "set.json" in left:
        assert left.items() >= reference.items()
    generate_shards(make_work(painter=Painter(log), **PLAN), folder)
    assert folder_bytes(folder) == reference
    made = Counter(log.read_text().split())
    assert len(made) == 10
    # Only the batch whose write was torn is made again.
    assert sum(count - 1 for count in made.values()) in (0, BATCH_SIZE, 2)


def test_a_run_killed_again_and_again_gets_there(reference: dict[str, bytes], tmp_path: Path) -> None:
    folder, log = tmp_path / "set", tmp_path / "log"
    log.touch()
    kills = 0
    while kills < 40 and run_until_killed(folder, log, deadly=6) == signal.SIGKILL:
        kills += 1
    assert 2 <= kills < 40
    assert folder_bytes(folder) == reference
