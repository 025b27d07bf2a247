"""Test 1 of the fault tests: kill -9 at random moments of the generation pipeline, from captions to manifest."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from ..forking import fork
from ..generated_sets.painting import Spoiler, folder_bytes
from .test_generation import run_pipeline, use_painter

pytestmark = pytest.mark.reliability(1)

SPOILT = {1: "NaN", 3: "black", 8: "small"}
QUALITY = {"retries": 1}


class Slow(Spoiler):
    """Takes its time, so that a random moment is as likely while it denoises as while anything is written."""

    def denoise(self, prompts, seeds):
        time.sleep(0.02)
        return super().denoise(prompts, seeds)


def run(folder: Path) -> None:
    run_pipeline(folder / "shards", spoilt=SPOILT, quality=QUALITY, batch_size=3, shard_size=4)


@pytest.fixture(scope="module", autouse=True)
def painter():
    with pytest.MonkeyPatch.context() as patch:
        use_painter(patch, Slow)
        yield


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The files of an uninterrupted run, and how long one takes."""
    run(tmp_path_factory.mktemp("warm"))
    folder = tmp_path_factory.mktemp("reference")
    started = time.perf_counter()
    run(folder)
    return folder_bytes(folder), time.perf_counter() - started


@pytest.mark.parametrize("seed", range(20))
def test_a_killed_pipeline_resumes_to_the_same_bytes(seed: int, reference, tmp_path: Path) -> None:
    files, seconds = reference
    child = fork(lambda: run(tmp_path))
    time.sleep(np.random.default_rng(seed).uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    run(tmp_path)
    assert folder_bytes(tmp_path) == files
