"""Independent jobs and the workers that do them: here one after another, elsewhere many at once."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

WorkerBuilder = Callable[[], Callable[[Any], Any]]


class JobMapper(Protocol):
    """Does jobs with workers that are built once each."""

    def __call__(self, build_worker: WorkerBuilder, waves: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """Yields the result of each job, in the order of the jobs.

        Args:
            build_worker: Builds what does a job; it may be called in another process, so it and the jobs can be
                pickled and no live model is in either.
            waves: The jobs; those of a wave wait for all of the waves before, but not for one another. A job may
                be done twice, if its worker dies, and must bear it.
        """
        ...


def map_here(build_worker: WorkerBuilder, waves: Iterable[Sequence[Any]]) -> Iterator[Any]:
    """Does all jobs in this process, one after another (a ``JobMapper``).

    Args:
        build_worker: Builds what does a job; called once.
        waves: What is to be done.
    """
    worker = build_worker()
    for wave in waves:
        yield from map(worker, wave)
