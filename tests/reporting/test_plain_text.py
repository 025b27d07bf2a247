"""Names that would be markup, formulas or commands are shown as they are, by everything that shows a name."""

import inspect
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import yaml
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from gmail_kedro.pipelines.reporting.nodes import compare_items
from gmail_kedro.reporting import charts, contact_sheet, run_figures
from gmail_kedro.reporting.paper_tables import tables_markdown
from gmail_kedro.reporting.plain_text import command, markdown
from gmail_kedro.reporting.report_page import Gallery, PageFigure, render_markdown, render_page
from gmail_kedro.reporting.run_summary import summarize
from gmail_kedro.reporting.set_card import set_card, set_card_page
from gmail_kedro.reporting.study_tables import study_markdown

from . import reproductions, test_run_summary, test_set_card

NAMES = [
    "<svg onload=alert(1)>",
    "_emphasis_ and *more* of it",
    "a | b",
    "`code` and ``more``",
    "[a link](https://example.org)",
    "~~struck~~ &lt; &amp; \\*",
    "# 1. heading",
    "- item",
    "a $5 hat and a $7 shirt",
    "mini_clip",
]
BROKEN = "two\nlines\r\nand \x1b[31ma colour"
DOLLARS = r"a $5 hat, a $7 shirt, $\frac$"
RED = Image.new("RGB", (8, 8), "red")


def shown(text: str) -> str:
    """What a reader of a Markdown text sees, a line a block; fails where there is HTML in it."""
    lines = []
    for token in MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).parse(text):
        assert token.type != "html_block", token.content
        for part in token.children or []:
            assert part.type not in ("html_inline", "link_open"), part.content
        lines += ["".join(part.content for part in token.children)] if token.children else []
        lines += [token.content] if token.type == "code_block" else []
    return "\n".join(lines)


def markdown_of(name: str) -> dict[str, str]:
    """Every Markdown text of the project about a corpus, set, run and so on of this name."""
    scores = test_run_summary.scores.__wrapped__()
    scores["protocol"] |= {"corpus": name, "generator": name, "seed": 0}
    scores["captioning"] = {"scores": {}, "intervals": {}, "unavailable": {"spice": name}}
    other = scores | {"protocol": scores["protocol"] | {"split": "val"}}
    card = set_card(
        name,
        generator={"name": name, "licence": name, "revision": "r1", "weights": {}},
        settings={"prompt": name},
        hashes={},
        statistics=test_set_card.STATISTICS | {"quarantine": {name: 1}},
    )
    items = pd.DataFrame({"image_id": ["a", "b"], "measure": name, "value": [1.0, 2.0]})
    cells = reproductions.result_table().assign(row=lambda table: table["row"] + name, title=name, corpus=name)
    cells.loc[cells["status"] == "blocked", "reason"] = name
    study = pd.DataFrame({"variant": [name], "measure": ["cider"], "mean": [1.0], "seeds": [1], "difference": [np.nan]})
    return {
        "summary": summarize(name, scores, {f"{name} of before": scores, f"{name} apart": other}),
        "card": set_card_page(card, sheet="samples.png").split("---\n", 2)[2],
        "comparison": compare_items(items, items, scores, scores, name, f"{name} of before")[1],
        "tables": tables_markdown(cells, {1: name}, [name]),
        "report": render_markdown(cells, {1: name}),
        "study": study_markdown(study, ["cider"], baseline=name),
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_markdown_text_shows_a_name_as_it_is(name: str):
    for kind, text in markdown_of(name).items():
        assert name in shown(text), kind


def test_line_breaks_and_control_characters_do_not_reach_a_line():
    for kind, text in markdown_of(BROKEN).items():
        assert "two lines and [31ma colour" in shown(text), kind
        assert "\x1b" not in text and "\r" not in text, kind


def test_a_name_inside_a_word_stays_readable():
    assert markdown("mini_clip, 12 x 3.5 (a)") == "mini_clip, 12 x 3.5 (a)"


def test_a_command_quotes_what_a_shell_would_read():
    assert command("set", "verify", "a`b") == "`` set verify 'a`b' ``"
    assert command("set", "verify", "mini_sd") == "`set verify mini_sd`"


@pytest.mark.parametrize("name", [*NAMES, BROKEN, "a: b\n---\nlicense: mit"])
def test_front_matter_gives_back_the_name(name: str):
    generator = {"name": name, "licence": name, "revision": "r1", "weights": {}}
    card = set_card(name, generator=generator, settings={}, hashes={}, statistics=test_set_card.STATISTICS)
    fields = next(yaml.safe_load_all(set_card_page(card, sheet="samples.png").partition("---\n")[2]))
    assert fields["pretty_name"] == fields["license_name"] == fields["tags"][-1] == name
    assert fields["license"] == "other"


@pytest.mark.parametrize("name", NAMES[:1])
def test_the_page_shows_a_name_as_it_is(name: str):
    cells = reproductions.result_table().assign(row=lambda table: table["row"] + name, title=name, corpus=name)
    svg = charts.as_svg(charts.draw_cost([name], [1.0], [1.0], name), name, title=name)
    page = render_page(cells, [Gallery(name, name, (PageFigure(name, name, svg=svg),))], {1: name})
    assert "onload=alert(1)&gt;" in page and "<svg onload" not in page


def drawings(name: str) -> dict[str, Figure]:
    """A figure of every function that draws, about things of this name."""
    points, spectrum = np.zeros((4, 2)), {"real": np.array([0.5, 0.25])}
    gap = {"scores": {"probe_auc_before": 0.9, "probe_auc_after": 0.6}}
    law = {"factor": 1.0, "exponent": 0.1}
    sizes = pd.DataFrame({"generated_image_count": [10, 100], "ours": [50.0, 60.0], "low": np.nan, "high": np.nan})
    history = pd.DataFrame({"step": [0, 1], "loss": [2.0, 1.0]})
    return {
        "draw_pairs": run_figures.draw_pairs([RED], [RED], [name]),
        "draw_captions": run_figures.draw_captions([RED], {name: [name]}, [name]),
        "draw_tsne": run_figures.draw_tsne(points, points, [name, name]),
        "draw_spectra": run_figures.draw_spectra(spectrum, {"real": 1.0}),
        "draw_contact_sheet": contact_sheet.draw_contact_sheet([contact_sheet.SheetCell(RED, RED, name)], name),
        "draw_gap": charts.draw_gap({name: gap}, "probe_auc", name),
        "draw_scaling": charts.draw_scaling(sizes, law, name),
        "draw_curves": charts.draw_curves({name: history}, name),
        "draw_cost": charts.draw_cost([name], [1.0], [2.0], name),
    }


def functions_that_draw(module: ModuleType) -> set[str]:
    return {name for name, _ in inspect.getmembers(module, inspect.isfunction) if name.startswith("draw_")}


def test_dollar_signs_in_a_figure_are_no_formula():
    drawn = drawings(DOLLARS)
    assert set(drawn) == set().union(*(functions_that_draw(module) for module in (run_figures, charts, contact_sheet)))
    for kind, figure in drawn.items():
        figure.canvas.draw()  # `\frac` without its numbers ends matplotlib's reading of a formula
        named = [text for text in figure.findobj(Text) if "$5" in text.get_text()]
        assert named or kind == "draw_spectra"
        assert not any(text.get_parse_math() for text in named), kind


def test_the_powers_of_ten_of_an_axis_stay_formulas():
    figure = drawings("a")["draw_spectra"]
    figure.canvas.draw()
    ticks = [tick for tick in figure.axes[0].get_yticklabels() if "10^" in tick.get_text()]
    assert ticks and all(tick.get_parse_math() for tick in ticks)
