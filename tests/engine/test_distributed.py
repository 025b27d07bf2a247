"""The same work on a Ray cluster of two nodes on this machine, one of which is killed half way."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from gmail_kedro.engine.distributed import RayMapper, job_mapper, map_here
from gmail_kedro.engine.inference import Encoding, FeatureStore, RemoteEncoder, encode_images
from gmail_kedro.generated_sets.generate import GenerationReport
from gmail_kedro.params.base import ParameterError
from gmail_kedro.params.run import RunParams

from ..generated_sets import painting

RUN = {
    "seed": 0,
    "device": "cpu",
    "precision": "float32",
    "encoder": "mini_clip",
    "encoder_path": None,
    "image_batch_size": 4,
}
PLAN = {"image_count": 24, "shard_size": 6, "batch_size": 2}
STORE_BYTES = 80 << 20
START_SECONDS = 180.0  # a worker takes its time to start on a busy machine


def test_the_engine_chooses_the_mapper(monkeypatch: pytest.MonkeyPatch) -> None:
    assert job_mapper(RunParams(**RUN, engine="local")) is map_here
    monkeypatch.setattr("gmail_kedro.params.run.find_spec", lambda name: object())
    assert job_mapper(RunParams(**RUN, engine="ray")) == RayMapper("cpu")


def test_an_engine_that_is_not_installed_is_refused_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gmail_kedro.params.run.find_spec", lambda name: None)
    with pytest.raises(ParameterError, match=r"run.engine must be local, or ray after: pip install .*\[distributed\]"):
        RunParams(**RUN, engine="ray")


def test_jobs_here_are_done_in_order_by_one_worker() -> None:
    built: list[int] = []

    def build() -> Callable[[int], int]:
        built.append(1)
        return lambda job: job * job

    assert list(map_here(build, range(4))) == [0, 1, 4, 9]
    assert len(built) == 1


class Cluster:
    """Two nodes of one CPU each, on this machine."""

    def __init__(self, address_of: object) -> None:
        self._cluster = address_of
        self.second: object = None

    def have_two_nodes(self) -> None:
        import ray

        if self.second is None:
            self.second = self._cluster.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
            self._cluster.wait_for_nodes()
        deadline = time.monotonic() + 30
        while ray.cluster_resources().get("CPU") != 2 and time.monotonic() < deadline:
            time.sleep(0.1)

    def kill_second(self) -> None:
        self._cluster.remove_node(self.second, allow_graceful=False)
        self.second = None


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # a node takes its time on a busy machine
    os.environ.setdefault("RAY_worker_niceness", "0")  # or workers starve beside other tests
    ray = pytest.importorskip("ray", reason="the extra 'distributed' is not installed")
    from ray.cluster_utils import Cluster as RayCluster

    head = {"num_cpus": 1, "object_store_memory": STORE_BYTES, "include_dashboard": False}
    nodes = RayCluster(initialize_head=True, head_node_args=head)
    ray.init(address=nodes.address, log_to_driver=False)
    for module in (painting, sys.modules[__name__]):  # the workers cannot import the tests
        ray.cloudpickle.register_pickle_by_value(module)
    yield Cluster(nodes)
    ray.shutdown()
    nodes.shutdown()


class SlowPainter(painting.Painter):
    """Paints a batch in a tenth of a second and writes down on which node; the first waits until both nodes paint."""

    def denoise(self, prompts, seeds):
        import ray

        time.sleep(0.1)
        with self.log.open("a") as file:
            file.write(ray.get_runtime_context().get_node_id() + "\n")
        deadline = time.monotonic() + START_SECONDS
        while len(set(self.log.read_text().split())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        log, self.log = self.log, None
        try:
            return painting.Painter.denoise(self, prompts, seeds)
        finally:
            self.log = log


class BrokenPainter(painting.Painter):
    """Fails on every prompt."""

    def denoise(self, prompts, seeds):
        raise ValueError("no such token")


def generate_on(mapper: object, build_generator: Callable[[], object], folder: Path) -> GenerationReport:
    work = painting.make_work(painting.make_captions(24), **PLAN)
    work.build_generator = build_generator
    return painting.generate(work, folder, mapper)


def kill_when_both_paint(cluster: Cluster, log: Path, killed: list[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        lines = log.read_text().splitlines() if log.exists() else []
        if cluster.second.node_id in lines and len(lines) >= 8:
            killed.append(cluster.second.node_id)
            cluster.kill_second()
            return
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.reliability(2)
def test_a_set_is_complete_and_equal_when_a_node_is_killed_half_way(
    cluster: Cluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generate_on(None, painting.Painter, tmp_path / "local")
    cluster.have_two_nodes()
    log, killed = tmp_path / "log", []
    killer = threading.Thread(target=kill_when_both_paint, args=(cluster, log, killed))
    killer.start()
    report = generate_on(RayMapper("cpu"), partial(SlowPainter, log), tmp_path / "ray")
    killer.join()
    lines = log.read_text().splitlines()
    assert killed and killed[0] in lines and lines[-1] != killed[0]
    assert "was lost; the job is redone" in caplog.text
    assert report.shard_count == 8
    assert painting.folder_bytes(tmp_path / "ray") == painting.folder_bytes(tmp_path / "local")


@pytest.mark.slow
def test_an_error_of_the_generator_stops_the_run_as_it_does_here(cluster: Cluster, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such token"):
        generate_on(RayMapper("cpu"), BrokenPainter, tmp_path)


@pytest.mark.slow
def test_a_job_that_ends_its_workers_is_given_up(cluster: Cluster) -> None:
    def build() -> Callable[[int], None]:
        return lambda job: os._exit(1)

    with pytest.raises(RuntimeError, match="Job 0 lost its worker 3 times"):
        list(RayMapper("cpu")(build, [0]))


@pytest.mark.slow
def test_a_cluster_without_the_device_is_named(cluster: Cluster) -> None:
    with pytest.raises(RuntimeError, match="has no GPU for run.device: cuda"):
        list(RayMapper("cuda")(lambda: abs, [1]))


class RealImages:
    """Images painted from their keys."""

    def read(self, key: str) -> bytes:
        import io

        stream = io.BytesIO()
        painting.paint(key, 0).save(stream, "JPEG")
        return stream.getvalue()


def build_clip(device: torch.device):
    from gmail_kedro.models.encoders.known_encoders import build_encoder

    return build_encoder("mini_clip", None, device=device)


@pytest.mark.slow
def test_features_are_those_of_this_process_in_its_order(cluster: Cluster, tmp_path: Path) -> None:
    cluster.have_two_nodes()
    device = torch.device("cpu")
    encoder = build_clip(device)
    keys = [f"photograph {n % 90}" for n in range(100)]

    def encoding(folder: str, remote: RemoteEncoder | None = None) -> Encoding:
        return Encoding(FeatureStore(tmp_path / folder), 4, device, "float32", remote)

    there = RemoteEncoder(build_clip, "cpu", RayMapper("cpu"))
    images = [
        encode_images(encoder, RealImages(), keys, encoding(*place), view="patch_mean")
        for place in (("here",), ("there", there))
    ]
    assert len({tuple(row.tolist()) for row in images[0]}) == 90
    assert torch.equal(*images)
