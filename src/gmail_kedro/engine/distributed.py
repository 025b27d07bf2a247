"""Does jobs here or on the machines of a Ray cluster: actors hold a model once, and what a lost one did is redone.

The pool of actors is our own. ``ray.util.ActorPool`` neither grows with the cluster nor survives a lost actor, and a
task that Ray itself retries waits for its own actor to be restarted, for ever where no machine has room, while others
are free. Plain tasks would leave models in the GPU memory of idle worker processes, beside the training that follows.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

from gmail_kedro.params.run import RunParams

logger = logging.getLogger(__name__)
MAX_LOSSES = 3
POLL_SECONDS = 5.0
WorkerBuilder = Callable[[], Callable[[Any], Any]]


class JobMapper(Protocol):
    """Does jobs with workers that are built once each."""

    def __call__(self, build_worker: WorkerBuilder, jobs: Iterable[Any]) -> Iterator[Any]:
        """Yields the result of each job, in the order of the jobs.

        Args:
            build_worker: Builds what does a job; it may be called in another process, so it and the jobs can be
                pickled and no live model is in either.
            jobs: Independent of one another. One may be done twice, if its worker dies, and must bear it.
        """
        ...


def map_here(build_worker: WorkerBuilder, jobs: Iterable[Any]) -> Iterator[Any]:
    """Does all jobs in this process, one after another (a ``JobMapper``)."""
    return map(build_worker(), jobs)


def job_mapper(run: RunParams) -> JobMapper:
    """Returns what does a run's jobs, as ``run.engine`` says."""
    return RayMapper(run.device) if run.engine == "ray" else map_here


@dataclass(frozen=True)
class RayMapper:
    """Does jobs with one actor for each GPU of the cluster, or for each CPU where there is none (a ``JobMapper``).

    A machine that joins gets actors, too. A job whose actor or machine is lost goes to the next free actor; an
    error that a job raises itself ends the run, as it does without Ray.

    Attributes:
        device: ``auto``, ``cpu`` or a CUDA device, as in ``run.device``.
    """

    device: str

    def __call__(self, build_worker: WorkerBuilder, jobs: Iterable[Any]) -> Iterator[Any]:
        """Yields the result of each job, in the order of the jobs.

        Raises:
            RuntimeError: If the cluster has no machine for the jobs, or a job lost its actor three times.
            Exception: Whatever a job raises.
        """
        import ray

        if not ray.is_initialized():
            ray.init()  # the cluster of RAY_ADDRESS or of this machine; without one, a new one on this machine
        pool = _ActorPool(ray.put(build_worker), jobs, resource=self._resource(), device=self.device)
        try:
            yield from pool.results()
        finally:
            pool.close()  # also when whoever reads the results stops early

    def _resource(self) -> str:
        import ray

        if self.device == "auto":
            return "GPU" if ray.cluster_resources().get("GPU") else "CPU"
        return "CPU" if self.device == "cpu" else "GPU"


@dataclass(frozen=True)
class _Task:
    index: int
    job: Any
    losses: int = 0  # workers that ended while they did it


class _ActorPool:
    """The actors of one map, what each is doing, and the jobs that wait: lost ones before the stream's next."""

    def __init__(self, build_worker: Any, jobs: Iterable[Any], *, resource: str, device: str) -> None:
        import ray

        self._build_worker, self._resource, self._device = build_worker, resource, device
        self._stream = enumerate(jobs)  # read as it is done: a plan of millions of jobs is never in memory
        self._waiting: deque[_Task] = deque()
        self._actor_class: Any = ray.remote(_Actor).options(num_cpus=1, num_gpus=int(resource == "GPU"), max_restarts=0)
        self._busy: dict[Any, tuple[Any, _Task | None]] = {}  # by what is waited for; no task: the worker is built

    def results(self) -> Iterator[Any]:
        """Yields results in order of the jobs until nothing is left to do."""
        import ray

        finished: dict[int, Any] = {}
        wanted = 0
        while self._grow() or self._busy:
            done, _ = ray.wait(list(self._busy), timeout=POLL_SECONDS)  # looks for new machines now and then
            for reference in done:
                finished.update(self._collect(reference))
            while wanted in finished:
                yield finished.pop(wanted)
                wanted += 1

    def close(self) -> None:
        """Ends all actors, and so frees their GPUs; what they were doing is lost."""
        import ray

        for actor, _ in self._busy.values():
            ray.kill(actor)
        self._busy.clear()

    def _grow(self) -> bool:
        """Starts actors while jobs wait and the cluster has room; says whether jobs wait."""
        import ray

        room = int(ray.cluster_resources().get(self._resource, 0))
        waiting = self._count_waiting(max(1, room))
        if waiting and not room and not self._busy:
            raise RuntimeError(
                f"The Ray cluster has no {self._resource} for run.device: {self._device}. Add a machine that has one "
                "(ray status shows what is there), or set run.device."
            )
        preparing = sum(task is None for _, task in self._busy.values())
        # An actor takes its time to load a model, so none is started for a job that a starting one will take.
        for _ in range(min(room - len(self._busy), waiting - preparing)):
            actor = self._actor_class.remote(self._build_worker)
            self._busy[actor.prepare.remote()] = actor, None
        return waiting > 0

    def _collect(self, reference: Any) -> dict[int, Any]:
        """Returns the result behind a reference by its index, and gives the actor its next job."""
        import ray
        from ray.exceptions import ObjectLostError, OutOfMemoryError, RayActorError, RayTaskError

        actor, task = self._busy.pop(reference)
        try:
            result = ray.get(reference)
        except (RayActorError, ObjectLostError, OutOfMemoryError):
            if task is not None:
                self._put_back(task)
            return {}
        except RayTaskError as error:
            raise error.cause from error  # what the job raised, as it would be raised here
        if self._count_waiting(1):
            following = self._waiting.popleft()
            self._busy[actor.run.remote(following.job)] = actor, following
        return {} if task is None else {task.index: result}

    def _count_waiting(self, limit: int) -> int:
        """Returns how many jobs wait, at most ``limit``; reads the stream no further."""
        self._waiting.extend(_Task(*pair) for pair in islice(self._stream, max(0, limit - len(self._waiting))))
        return min(limit, len(self._waiting))

    def _put_back(self, task: _Task) -> None:
        losses = task.losses + 1
        if losses == MAX_LOSSES:
            raise RuntimeError(
                f"Job {task.index} lost its worker {losses} times, so it may be what ends them (out of memory?). "
                "Finished shards are kept. See the logs of the Ray session; lower the batch size and start again."
            )
        logger.warning("The worker of job %d was lost; the job is redone (loss %d).", task.index, losses)
        self._waiting.appendleft(replace(task, losses=losses))  # first: the results after it wait for it


class _Actor:
    """Holds a worker in a process of its own."""

    def __init__(self, build_worker: WorkerBuilder) -> None:
        self._build_worker = build_worker

    def prepare(self) -> None:
        self._worker = self._build_worker()

    def run(self, job: Any) -> Any:
        return self._worker(job)
