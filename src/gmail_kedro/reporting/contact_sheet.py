"""The contact sheet of a generated set: generated images beside their real ones, each pair above its caption."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gmail_kedro.reporting.plain_text import as_written
from gmail_kedro.reporting.run_figures import GENERATED_COLOUR, REAL_COLOUR

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL.Image import Image

SIDE = 224  # pixels of an image on the sheet
LINE = 40  # characters of a caption's line
LINES = 4


@dataclass(frozen=True)
class SheetCell:
    """One caption's place on the sheet."""

    real: "Image | None"  # None where the corpus is not at hand
    generated: "Image"
    caption: str


@as_written
def draw_contact_sheet(cells: Sequence[SheetCell], title: str, *, columns: int = 4) -> "Figure":
    """Returns the sheet, a cell for each caption shown.

    Raises:
        ValueError: If there is no cell.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    if not cells:
        raise ValueError("There is no image for a contact sheet; the set has none that was made.")
    columns = min(columns, len(cells))
    rows = math.ceil(len(cells) / columns)
    width = 3.1 if cells[0].real is not None else 1.9
    layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06)
    figure = Figure(figsize=(width * columns, 2.25 * rows + 0.8), layout=layout)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, cell in zip(axes, cells, strict=False):
        _draw_cell(axis, cell)
    for axis in list(axes)[len(cells) :]:
        axis.set_axis_off()
    figure.suptitle(title, fontsize=12)
    return figure


def _draw_cell(axis: "Axes", cell: SheetCell) -> None:
    from textwrap import wrap

    edge = 0  # both images share one axis, so that the caption stands below the pair
    for image, colour, name in (
        (cell.real, REAL_COLOUR, "real"),
        (cell.generated, GENERATED_COLOUR, "generated"),
    ):
        if image is None:
            continue
        shown = _fit(image)
        axis.imshow(shown, extent=(edge, edge + SIDE, SIDE, 0), interpolation="nearest")
        axis.text(edge + SIDE / 2, -8, name, ha="center", va="bottom", fontsize=7.5, color=colour)
        edge += SIDE + SIDE // 32
    axis.set(xlim=(0, edge), ylim=(SIDE, 0), xticks=[], yticks=[])
    lines = wrap(cell.caption, LINE if cell.real is not None else LINE // 2 + 4)
    shown_lines = lines[:LINES] if len(lines) <= LINES else [*lines[: LINES - 1], f"{lines[LINES - 1]} …"]
    axis.set_xlabel("\n".join(shown_lines), fontsize=8.5)
    axis.set_frame_on(False)


def _fit(image: "Image") -> "Image":
    """Returns the whole image on a square, pixels kept sharp where it is small."""
    from PIL import Image, ImageOps

    small = max(image.size) < SIDE
    return ImageOps.pad(
        image.convert("RGB"),
        (SIDE, SIDE),
        method=Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS,
        color="white",
    )
