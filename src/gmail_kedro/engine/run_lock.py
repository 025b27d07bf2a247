"""One process at a time writes the results of a run."""

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path


@contextlib.contextmanager
def hold_run(path: Path, run_id: str) -> Iterator[None]:
    """Keeps other processes from writing a run's results; the kernel lets go if this one dies.

    The lock file stays, empty: one that is deleted can be held twice.

    Raises:
        RuntimeError: If another process holds it; says which, where and since when.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            raise RuntimeError(
                f"The run {run_id!r} is being written by {stream.read() or 'another process'}. Wait for it, stop it, "
                "or give this one a name of its own: --params=run_id=..."
            ) from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}")
        stream.flush()
        try:
            yield
        finally:
            stream.truncate(0)
            fcntl.flock(stream, fcntl.LOCK_UN)  # said, for a worker process may still have the file open
