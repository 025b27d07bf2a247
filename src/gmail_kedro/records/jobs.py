"""Independent jobs and the workers that do them: here one after another, elsewhere many at once."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol


class JobMapper(Protocol):
    """Does jobs with workers that are built once each."""

    def __call__(self, build_worker: Callable[[], Callable[[Any], Any]], jobs: Iterable[Any]) -> Iterator[Any]:
        """Yields the result of each job, in the order of the jobs.

        Args:
            build_worker: Builds what does a job; it may be called in another process, so it and the jobs can be
                pickled and no live model is in either.
            jobs: Read as workers get free. A job may be done twice, if its worker dies, and must bear it.
        """
        ...


def map_here(build_worker: Callable[[], Callable[[Any], Any]], jobs: Iterable[Any]) -> Iterator[Any]:
    """Does all jobs in this process, one after another (a ``JobMapper``).

    Args:
        build_worker: Builds what does a job; called once.
        jobs: What is to be done.
    """
    worker = build_worker()
    for job in jobs:
        yield worker(job)
