"""The figures of one run: Figures 2 and 3 of the paper (images side by side, both modalities in one plane), spectra.

Each is a ``Figure`` of its own and no ``pyplot``, which would keep every figure of a process open. What cannot be drawn
is a figure of one sentence: a run of hours does not end for a figure.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gmail_kedro.reporting.plain_text import as_written

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

REAL_COLOUR, GENERATED_COLOUR = "#1f6f8b", "#d1495b"
FEWEST_POINTS = 4
SPECTRUM_LINES = {
    "real": ("real", REAL_COLOUR, "-"),
    "real_after": ("real, after alignment", REAL_COLOUR, "--"),
    "before": ("generated, before alignment", GENERATED_COLOUR, ":"),
    "after": ("generated, after alignment", GENERATED_COLOUR, "-"),
}


@as_written
def draw_pairs(real: Sequence["Image"], generated: Sequence["Image"], captions: Sequence[str]) -> "Figure":
    """Returns Fig. 2: real images above those generated from one of their captions, which stands below."""
    from textwrap import fill

    from matplotlib.figure import Figure

    count = len(real)
    if not count:
        return _say_why("No image is held out, so there is no pair to show.")
    figure = Figure(figsize=(max(1.75 * count, 5.2), 4.6), layout="constrained")
    axes = figure.subplots(2, count, squeeze=False)
    for column, (real_image, generated_image, caption) in enumerate(zip(real, generated, captions, strict=True)):
        axes[0, column].imshow(real_image, interpolation="nearest")
        axes[1, column].imshow(generated_image, interpolation="nearest")
        axes[1, column].set_xlabel(fill(caption, 22), fontsize=7.5)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    axes[0, 0].set_ylabel("real", fontsize=11, color=REAL_COLOUR)
    axes[1, 0].set_ylabel("generated", fontsize=11, color=GENERATED_COLOUR)
    figure.suptitle("Real images and the images generated from their captions", fontsize=12)
    return figure


@as_written
def draw_captions(images: Sequence["Image"], captions: Mapping[str, Sequence[str]], notes: Sequence[str]) -> "Figure":
    """Returns real images in a row, with what each run says of them underneath.

    Args:
        images: The real images.
        captions: Each run's captions of them, in the same order; the runs in the order of the lines.
        notes: A line above each image.
    """
    from textwrap import fill

    from matplotlib.figure import Figure

    if not images:
        return _say_why("The runs have no image in common, so there is no caption to compare.")
    figure = Figure(figsize=(max(2.1 * len(images), 4.5), 2.5 + 0.6 * len(captions)), layout="constrained")
    axes = figure.subplots(1, len(images), squeeze=False)[0]
    for column, (axis, image, note) in enumerate(zip(axes, images, notes, strict=True)):
        axis.imshow(image, interpolation="nearest")
        axis.set_title(note, fontsize=8)
        said = [f"{run}:\n{fill(texts[column] or '(nothing)', 26)}" for run, texts in captions.items()]
        axis.set_xlabel("\n\n".join(said), fontsize=7.5)
        axis.set(xticks=[], yticks=[])
    figure.suptitle("Real images and what each run says of them", fontsize=11)
    return figure


@as_written
def draw_tsne(before: np.ndarray | None, after: np.ndarray | None, notes: Sequence[str]) -> "Figure":
    """Returns Fig. 3: t-SNE planes of real and generated embeddings before and after alignment.

    Args:
        before: Points [2N, 2]; the first N are real, the others generated, pair by pair. None where there is no plane.
        after: The same with the student's view of the generated images.
        notes: One line under each panel, such as the probe's AUC.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 5.2), layout="constrained")
    axes = figure.subplots(1, 2)
    titles = ("Before alignment (frozen CLIP)", "After alignment (student)")
    for axis, points, title, note in zip(axes, (before, after), titles, notes, strict=True):
        axis.set_title(title, fontsize=11)
        axis.set_xlabel(note, fontsize=9)
        axis.set(xticks=[], yticks=[])
        if points is None:
            axis.text(0.5, 0.5, f"fewer than {FEWEST_POINTS} different points have no plane", ha="center", wrap=True)
            continue
        real, generated = np.split(points, 2)  # [N, 2] each
        for first, second in zip(real, generated, strict=True):
            axis.plot(*zip(first, second, strict=True), color="#bbbbbb", linewidth=0.4, zorder=1)
        axis.scatter(*real.T, s=14, color=REAL_COLOUR, label="real", zorder=2)
        axis.scatter(*generated.T, s=14, color=GENERATED_COLOUR, marker="^", label="generated", zorder=2)
    if before is not None:
        axes[0].legend(loc="upper left", fontsize=9)
    return figure


@as_written
def draw_spectra(spectra: Mapping[str, np.ndarray], exponents: Mapping[str, float]) -> "Figure":
    """Returns the eigenvalue curves of the clouds, log-log: a curve that falls faster fills fewer directions.

    Args:
        spectra: Eigenvalues, descending, of ``real``, ``before`` and ``after``, and of ``real_after`` where the real
            side is aligned too; zeros are left out.
        exponents: The power-law exponent of each.
    """
    from matplotlib.figure import Figure

    # A cloud of N points fills at most N - 1 directions: what is left of the others is rounding.
    shown = {name: spectra[name][spectra[name] > 1e-12] for name in SPECTRUM_LINES if name in spectra}
    if not any(len(values) for values in shown.values()):
        return _say_why("Every cloud is a single point: there is no variance to draw a spectrum of.")
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axis = figure.subplots()
    for name, values in shown.items():
        label, colour, style = SPECTRUM_LINES[name]
        ranks, note = np.arange(1, len(values) + 1), f"exponent {exponents[name]:.2f}" if len(values) else "one point"
        axis.plot(ranks, values, style, color=colour, label=f"{label} ({note})")
    axis.set(xscale="log", yscale="log")
    axis.set_xlabel("rank of the eigenvalue", fontsize=9)
    axis.set_ylabel("variance of unit embeddings", fontsize=9)
    axis.set_title("Spectra of the embedding clouds", fontsize=11)
    axis.legend(fontsize=9)
    return figure


def _say_why(text: str) -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.2))
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=10, wrap=True)
    return figure


def tsne_plane(embeddings: np.ndarray, *, seed: int) -> np.ndarray | None:
    """Returns the t-SNE plane [N, 2] of unit-normalised embeddings [N, D] (cosine, PCA start, fixed seed).

    Fewer than ``FEWEST_POINTS`` different points have none.
    """
    from sklearn.manifold import TSNE

    unit = embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)
    if len(np.unique(unit, axis=0)) < FEWEST_POINTS:
        return None
    # scikit-learn refuses a perplexity that is not below the number of points.
    perplexity = min(30, max(2, (len(unit) - 1) // 3))
    return TSNE(metric="cosine", init="pca", perplexity=perplexity, random_state=seed).fit_transform(unit)
