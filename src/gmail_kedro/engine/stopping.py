"""How a process that is asked to stop (SIGTERM, Ctrl-C) ends: soon, with its state on disk, and saying so.

The exit code is 75, "temporary failure": whoever started the command may give it again, and it goes on.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

ASKING = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """The process was asked to stop; the same command goes on."""

    def __init__(self) -> None:
        super().__init__(os.EX_TEMPFAIL)
        _tell("Stopped, as asked; what was done is kept. Go on with the same command.")


@contextlib.contextmanager
def stopping_at_once() -> Iterator[None]:
    """SIGTERM and Ctrl-C end its body with ``Stopped``, wherever it is; a second one ends the process at once."""

    # Raised in the middle of anything: what writes files does so under a temporary name, so nothing half is left.
    def stop() -> None:
        raise Stopped

    with _handling(ASKING, stop):
        yield


@contextlib.contextmanager
def stopping_between_steps() -> Iterator[Callable[[], bool]]:
    """Yields a function that says whether its body was asked to stop, by SIGTERM or Ctrl-C; a second one ends at once.

    Raises:
        Stopped: At the end of a body that was asked.
    """
    asked = threading.Event()

    def remember() -> None:
        asked.set()
        _tell("Stopping after this step. A second signal ends the process at once.")

    with _handling(ASKING, remember):
        yield asked.is_set
    if asked.is_set():
        raise Stopped


@contextlib.contextmanager
def _handling(signals: tuple[signal.Signals, ...], act: Callable[[], None]) -> Iterator[None]:
    """Acts on the first of the signals. What the starter of the process chose to ignore stays ignored."""
    if threading.current_thread() is not threading.main_thread():  # only there can it be done
        yield
        return
    owner, seen = os.getpid(), threading.Event()

    def handle(number: int, frame: object) -> None:
        is_worker = os.getpid() != owner  # a forked one has the handlers of this process
        if is_worker and number == signal.SIGINT:  # Ctrl-C reaches all; this process ends its workers itself
            return
        if is_worker or seen.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        seen.set()
        act()

    before = {number: signal.getsignal(number) for number in signals}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _tell(text: str) -> None:
    """Writes to the terminal past all buffers: a handler runs in the middle of anything, of logging too."""
    with contextlib.suppress(OSError):
        os.write(2, f"{text}\n".encode())
