"""Metrics that cannot run on a machine: the error that says so, and the commonest reason, which is Java."""

import shutil

INSTALL_JAVA = "Install a Java runtime (8 or newer) so that `java` is on the PATH"


class MetricUnavailableError(RuntimeError):
    """A metric or tokenizer that cannot run on this machine; the message says why and what to do."""


def require_java(what: str, otherwise: str) -> None:
    """Checks that there is a ``java`` on the PATH; starts nothing.

    Args:
        what: Who needs it, to begin the message with.
        otherwise: What can be done without it, to end the message with.

    Raises:
        MetricUnavailableError: If there is none.
    """
    if shutil.which("java") is None:
        raise MetricUnavailableError(f"{what} needs Java, and there is no `java` here. {INSTALL_JAVA}, {otherwise}.")
