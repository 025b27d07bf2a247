"""Test 1 of the fault tests: kill -9 at every write, rename, removal and batch of a run, with a quarantine to write.

After resuming, the set is that of an uninterrupted run, byte for byte. ``tests/pipelines/test_kill.py`` does the same
to the whole pipeline at random moments.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from gmail_kedro.generated_sets import shard_format as shards
from gmail_kedro.generated_sets.make_shard import ShardMaker

from ..forking import fork
from .painting import Spoiler, folder_bytes, generate, make_work, spoil_captions

pytestmark = pytest.mark.reliability(1)

BATCH_SIZE, SHARD_SIZE = 3, 6
ROW_COUNT = 10
SPOILT = {1: "NaN", 3: "black", 8: "small"}
MOMENTS = 46  # batches, retries, the middle of every write, before and after every rename and removal


class Tripwire:
    """Counts the moments at which a run can die, and dies at one of them."""

    def __init__(self, deadly: int) -> None:
        self.deadly, self.count = deadly, 0

    def tick(self) -> None:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., None]) -> Callable[..., None]:
        def wrapped(*args: object, **kwargs: object) -> None:
            self.tick()
            call(*args, **kwargs)
            self.tick()

        return wrapped

    def torn_write(self, file, content: bytes) -> None:
        half = len(content) // 2
        self._write(file, content[:half])
        self.tick()
        self._write(file, content[half:])

    def set_up(self, patch: Callable[[object, str, object], None]) -> None:
        self._write = shards._write
        patch(shards, "_write", self.torn_write)
        patch(os, "replace", self.around(os.replace))
        patch(os, "unlink", self.around(os.unlink))


def work_of(log: Path | None = None, tick: Callable[[], None] = lambda: None, **changes: object) -> ShardMaker:
    plan = {"shard_size": SHARD_SIZE, "batch_size": BATCH_SIZE, "quality": {"retries": 1}}
    return make_work(spoil_captions(SPOILT, image_count=ROW_COUNT), painter=Spoiler(log, tick), **plan | changes)


def run_until_killed(folder: Path, log: Path, deadly: int, **changes: object) -> int:
    """Returns the signal that ended a run in a process of its own."""

    def work() -> None:
        wire = Tripwire(deadly)
        wire.set_up(setattr)
        generate(work_of(log, wire.tick, **changes), folder)

    return os.WTERMSIG(os.waitpid(fork(work), 0)[1])


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("reference")
    generate(work_of(), folder)
    return folder_bytes(folder)


def test_the_moments_are_all_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Tripwire(deadly=0)
    wire.set_up(monkeypatch.setattr)
    generate(work_of(tick=wire.tick), tmp_path)
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
    generate(work_of(log), folder)
    assert folder_bytes(folder) == reference
    made = Counter(log.read_text().split())
    assert len(made) == ROW_COUNT + len(SPOILT)
    # Only images of the shard that was being made, and its retries, can be made again.
    assert sum(made.values()) - len(made) <= SHARD_SIZE + len(SPOILT)


def test_a_run_killed_again_and_again_gets_there(reference: dict[str, bytes], tmp_path: Path) -> None:
    folder, log = tmp_path / "set", tmp_path / "log"
    log.touch()
    kills = 0
    while kills < 60 and run_until_killed(folder, log, deadly=20) == signal.SIGKILL:
        kills += 1
    assert 2 <= kills < 60
    assert folder_bytes(folder) == reference


@pytest.mark.parametrize("deadly", range(1, 46, 4))
def test_a_killed_extension_resumes_to_the_same_bytes(deadly: int, tmp_path: Path) -> None:
    folder, log = tmp_path / "set", tmp_path / "log"
    log.touch()
    generate(work_of(), folder)
    assert run_until_killed(folder, log, deadly, samples_per_caption=2) == signal.SIGKILL
    generate(work_of(log, samples_per_caption=2), folder)
    assert not set(log.read_text().split()) & {str(seed) for seed in work_of().plan["seed"]}
    generate(work_of(samples_per_caption=2), tmp_path / "whole")
    assert folder_bytes(folder) == folder_bytes(tmp_path / "whole")
