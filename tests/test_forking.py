import os
import signal

import pytest
from tqdm import tqdm

from .forking import fork


@pytest.mark.timeout(10)
def test_a_copy_killed_while_it_draws_progress_leaves_this_process_free() -> None:
    with tqdm(total=1, disable=True):
        pass  # tqdm makes its lock with its first bar

    def die_with_the_lock() -> None:
        tqdm.get_lock().acquire()
        os.kill(os.getpid(), signal.SIGKILL)

    _, status = os.waitpid(fork(die_with_the_lock), 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    with tqdm(total=1, disable=True) as bar:
        assert bar.total == 1


def test_a_copy_ends_with_what_became_of_its_work() -> None:
    def fail() -> None:
        raise ValueError

    children = [fork(lambda: None), fork(fail), fork(fail, lambda error: 7)]
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 1, 7]
