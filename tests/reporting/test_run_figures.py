"""Figures say what they show."""

import io

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from gmail_kedro.reporting.run_figures import draw_captions, draw_pairs, draw_spectra, draw_tsne, tsne_plane


def test_spectra_are_log_log_curves_without_their_zeros():
    halves = np.array([0.5, 0.25, 0.125, 0.0])
    spectra = {"real": halves, "before": 2 * halves, "after": 3 * halves}
    (axis,) = draw_spectra(spectra, {"real": 1.0, "before": 1.25, "after": 0.5}).axes
    assert axis.get_xscale() == axis.get_yscale() == "log"
    lines = axis.get_lines()
    assert [line.get_label() for line in lines] == [
        "real (exponent 1.00)",
        "generated, before alignment (exponent 1.25)",
        "generated, after alignment (exponent 0.50)",
    ]
    assert list(lines[1].get_xdata()) == [1, 2, 3]
    assert list(lines[1].get_ydata()) == pytest.approx([1.0, 0.5, 0.25])


def test_a_real_side_that_moved_has_a_curve_of_its_own():
    names = ("real", "real_after", "before", "after")
    spectra = {name: np.array([0.5, 0.25]) for name in names}
    (axis,) = draw_spectra(spectra, dict.fromkeys(names, 1.0)).axes
    assert [line.get_label() for line in axis.get_lines()][1] == "real, after alignment (exponent 1.00)"


def texts_of(figure) -> str:
    figure.savefig(io.BytesIO())  # a logarithmic axis without a positive value is found out only here
    return " ".join(text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize("values", [[], [0.0], [np.nan]])
def test_spectra_of_single_points_say_so(values: list[float]):
    nothing = np.array(values)
    clouds = {"real": nothing, "before": nothing, "after": nothing}
    assert "Every cloud is a single point" in texts_of(draw_spectra(clouds, dict.fromkeys(clouds, 0.0)))
    clouds["real"] = np.array([0.5])
    text = texts_of(draw_spectra(clouds, dict.fromkeys(clouds, 0.0)))
    assert "real (exponent 0.00)" in text and "generated, after alignment (one point)" in text


@pytest.mark.parametrize("rows", [np.eye(2, 3), np.ones((8, 3))])
def test_too_few_points_have_no_plane_and_the_figure_says_so(rows: np.ndarray):
    assert tsne_plane(rows, seed=0) is None
    assert texts_of(draw_tsne(None, None, ["a", "b"])).count("fewer than 4 different points have no plane") == 2
    assert tsne_plane(np.eye(4), seed=0).shape == (4, 2)


def test_no_pair_and_no_shared_real_image_is_said():
    assert "No image is held out" in texts_of(draw_pairs([], [], []))
    assert "no image in common" in texts_of(draw_captions([], {"run": []}, []))


def test_the_title_over_a_single_real_image_is_not_cut():
    image = Image.new("RGB", (8, 8))
    for figure in (draw_pairs([image], [image], ["a dog"]), draw_captions([image], {"run": ["a dog"]}, ["best"])):
        figure.draw_without_rendering()
        (title,) = (text for text in figure.texts if "images" in text.get_text())
        extent = title.get_window_extent()
        assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width
