import pytest
from PIL import Image

from gmail_kedro.reporting.contact_sheet import SheetCell, draw_contact_sheet

RED, BLUE = Image.new("RGB", (20, 10), "red"), Image.new("RGB", (8, 8), "blue")


def texts_of(figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in (*axis.texts, axis.xaxis.label)]


def test_each_cell_shows_real_image_and_image_above_the_caption():
    cells = [
        SheetCell(
            RED,
            BLUE,
            f"caption {number} costs $5 or $6",
        )
        for number in range(6)
    ]
    figure = draw_contact_sheet(cells, "the title")
    shown = [axis for axis in figure.axes if axis.images]
    assert [len(axis.images) for axis in shown] == [2] * 6
    left, right = shown[0].images
    assert left.get_extent()[1] < right.get_extent()[0]
    assert tuple(left.get_array()[112, 112]) == (255, 0, 0) and tuple(right.get_array()[112, 112]) == (0, 0, 255)
    assert "caption 5 costs $5 or $6" in texts_of(figure)


def test_without_real_images_the_images_stand_alone():
    figure = draw_contact_sheet([SheetCell(None, BLUE, "a caption")], "the title")
    assert [len(axis.images) for axis in figure.axes] == [1]
    assert "real" not in texts_of(figure)


def test_long_captions_are_wrapped_and_cut_with_a_mark():
    (label,) = [
        text for text in texts_of(draw_contact_sheet([SheetCell(RED, BLUE, "word " * 99)], "")) if "word" in text
    ]
    assert len(label.splitlines()) == 4 and label.endswith(" …")


def test_an_empty_sheet_is_refused():
    with pytest.raises(ValueError, match="no image for a contact sheet"):
        draw_contact_sheet([], "the title")
