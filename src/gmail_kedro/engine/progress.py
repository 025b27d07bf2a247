"""Progress bars for training, shown only while somebody watches."""

import contextlib
import logging
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


def report_losses(logger: logging.Logger, name: str, *, every: int) -> Callable[[int, dict[str, float]], None]:
    """Returns an ``on_step`` callback that logs the losses now and then, for training in the background.

    Args:
        logger: Where the lines go.
        name: What is being trained.
        every: Steps between two lines.
    """

    def report(index: int, row: dict[str, float]) -> None:
        if (index + 1) % every == 0:
            losses = {key: round(value, 4) for key, value in row.items() if key not in ("step", "learning_rate")}
            logger.info("%s step %d: %s", name, index + 1, losses)

    return report
