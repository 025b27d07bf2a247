"""A process of its own for work that may be killed at any moment, without starting Python and its libraries again."""

import os
import threading
from collections.abc import Callable

from tqdm import tqdm


def fork(work: Callable[[], None], exit_code: Callable[[BaseException], int] = lambda error: 1) -> int:
    """Starts ``work`` in a copy of this process and returns its id, for ``os.kill`` and ``os.waitpid``.

    The copy ends with 0, or with what ``exit_code`` says of an error. It gets a progress lock of its own: tqdm's is a
    semaphore that processes share, and a copy killed while it holds it would keep this process waiting for ever.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            tqdm.set_lock(threading.RLock())
            work()
            code = 0
        except BaseException as error:
            code = exit_code(error)
        finally:
            os._exit(code)
    return child
