"""Names and captions of a user as they are written: in a figure no formula, in Markdown no markup, in a shell one word.

The page escapes its own (Jinja's ``autoescape``), and front matter is YAML's own dump.
"""

import functools
import math
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Content = ParamSpec("Content")

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
MARKUP = re.compile(r"([\\`*\[|~$#]|(?<![^\W_])_|_(?![^\W_]))")  # an underscore inside a word marks nothing
BLOCK_START = re.compile(r"^([-+=](?=\s|$)|\d+[.)](?=\s|$))")
SPACES = re.compile(r"[\s\x00-\x1f\x7f-\x9f]+")


def as_written(draw: "Callable[Content, Figure]") -> "Callable[Content, Figure]":
    """Lets a function that draws take dollar signs for dollar signs: matplotlib would set what is between two as maths.

    Labels that matplotlib makes itself, such as the powers of ten of a logarithmic axis, stay formulas.
    """

    @functools.wraps(draw)
    def drawn(*content: Content.args, **more: Content.kwargs) -> "Figure":
        import matplotlib

        # A Text takes the setting when it is made, so it need not hold any more when the figure is saved.
        with matplotlib.rc_context({"text.parse_math": False}):
            figure = draw(*content, **more)
        _keep_powers(figure)
        return figure

    return drawn


def _keep_powers(figure: "Figure") -> None:
    from matplotlib.ticker import LogFormatter

    sides = [side for axis in figure.axes for side in (axis.xaxis, axis.yaxis)]
    for side in sides:
        if isinstance(side.get_major_formatter(), LogFormatter):
            for label in side.get_ticklabels(which="both"):
                label.set_parse_math(True)


def one_line(text: Any) -> str:
    """Returns a text without line breaks and control characters, such as those that colour a terminal."""
    return SPACES.sub(" ", str(text)).strip()


def markdown(text: Any) -> str:
    r"""Returns a text that Markdown shows as it is, on one line and inside one cell of a table.

    Example:
        >>> markdown("mini_clip <b> a|b")
        'mini_clip &lt;b&gt; a\\|b'
    """
    line = re.sub("[&<>]", lambda found: ENTITIES[found[0]], one_line(text))
    line = MARKUP.sub(r"\\\1", line)
    return BLOCK_START.sub(lambda found: f"{found[0][:-1]}\\{found[0][-1]}", line)


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Returns the lines of a table in Markdown; its cells are Markdown already."""
    head, *lines = [f"| {' | '.join(cells)} |" for cells in (heads, *rows)]
    return [head, "|---" * len(heads) + "|", *lines]


def interval_text(low: float, high: float, form: str) -> str:
    """Returns an interval in brackets after a space; nothing where there is none.

    Args:
        low: Its lower end, NaN where there is none.
        high: Its upper end.
        form: How its ends are written, such as ``+.2f``.
    """
    return f" [{low:{form}}, {high:{form}}]" if math.isfinite(low) and math.isfinite(high) else ""


def command(*words: str) -> str:
    """Returns a command line as a code span of Markdown, each word quoted for a shell where it has to be.

    Example:
        >>> command("gmail-kedro", "set", "verify", "my set")
        "`gmail-kedro set verify 'my set'`"
    """
    line = " ".join(shlex.quote(one_line(word)) for word in words)
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence, space = "`" * (longest + 1), " " if longest else ""
    return f"{fence}{space}{line}{space}{fence}"
