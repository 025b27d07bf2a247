"""Progress bars for training, shown only while somebody watches."""

import contextlib
from collections.abc import Callable, Iterator

from tqdm import tqdm


@contextlib.contextmanager
def step_progress(title: str, steps: int) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Yields an ``on_step`` callback that moves a bar and shows the loss.

    Args:
        title: What is being trained.
        steps: Steps of the whole run.
    """
    with tqdm(total=steps, desc=title, unit="step", disable=None) as bar:

        def on_step(index: int, row: dict[str, float]) -> None:
            bar.update(index + 1 - bar.n)
            bar.set_postfix(loss=f"{row['loss']:.3f}", refresh=False)

        yield on_step
