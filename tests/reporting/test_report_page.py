"""The report needs nothing but itself, says what every row is, and reads well in a browser, wide and narrow."""

import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from gmail_kedro.params.report import ReportParams
from gmail_kedro.reporting.finished_runs import read_runs
from gmail_kedro.reporting.report_figures import build_galleries
from gmail_kedro.reporting.report_page import PageFigure, label, render_markdown, render_page, shown_tables

from .reproductions import LAWS, NO_SPICE, PARAMETERS, cell, result_table, write_reproduction

VOID = {"meta", "link", "img", "br", "hr", "input"}
NOTES = {1: "The mini world stands for COCO."}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


class Reader(HTMLParser):
    """Follows tags to their ends, and collects ids, links, what is fetched, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self._note(tag, attributes)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._note(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]} at {self.getpos()}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def _note(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        named = dict(attributes)
        self.ids += [named["id"]] if named.get("id") else []
        self.links += [named["href"]] if tag == "a" and named.get("href") else []
        self.fetched += [named[name] for name in ("src", "srcset", "data") if named.get(name)]
        self.fetched += [named["href"]] if tag in ("link", "use", "image") and named.get("href") else []


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("reproduction")
    write_reproduction(folder)
    galleries = build_galleries(
        result_table(), read_runs(folder / "repro"), folder / "sets", LAWS, ReportParams(**PARAMETERS)
    )
    return render_page(result_table(), galleries, NOTES)


@pytest.fixture(scope="module")
def reader(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_the_page_is_well_formed_and_fetches_nothing(page: str, reader: Reader):
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert reader.fetched and all(address.startswith(("data:", "#")) for address in reader.fetched)
    assert reader.links and {link.removeprefix("#") for link in reader.links} <= set(reader.ids)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style and "@import" not in style and "prefers-color-scheme: dark" in style
    assert "<script" not in page


def test_every_row_shows_its_status_its_protocol_and_where_it_comes_from(reader: Reader):
    text = " ".join(reader.text.split())
    assert "Of the 5 differences the paper reports, 1 holds here" in text and "one training seed" in text
    assert "Single seed." in text and NOTES[1] in text
    for fact in ("run in part", NO_SPICE, "mini_stable_diffusion", "9f86d08188", "577fd46aa1", "repro/gmail-0", "test"):
        assert fact in text, fact
    assert "▲ 4.50 better [+1.50, +7.50] paper ▲ 11.2 better ● holds" in text
    assert "▲ 4.50 worse" in text and "paper ▼ 2.00 better" in text and "◆ opposite" in text


def test_what_could_not_be_drawn_says_why(tmp_path: Path):
    (tmp_path / "repro").mkdir()
    galleries = build_galleries(result_table(), [], tmp_path, {}, ReportParams(**PARAMETERS | {"cost_table": 13}))
    figures = [figure for gallery in galleries for figure in gallery.figures]
    assert [figure.title for figure in figures if not figure.missing] == ["image → text R@1"]  # from the tables alone
    missing = {figure.missing for figure in figures}
    assert "the results have no table 13" in missing
    assert "none of the runs frozen, gmail has left tsne.png" in missing
    assert "— none of the runs frozen, gmail has left tsne.png" in render_page(result_table(), galleries, {})
    with pytest.raises(ValueError, match="a chart, an image, or a reason"):
        PageFigure("t-SNE", "")


def test_a_run_that_left_part_of_its_files_is_read_and_other_folders_are_not(tmp_path: Path):
    write_reproduction(tmp_path)
    for name in ("gmail-1", "gmail-2"):
        (tmp_path / "repro" / name).mkdir()
        (tmp_path / "repro" / name / "gap.json").write_text('{"scores": {}}')
    (tmp_path / "repro/gmail-1/run.json").write_text('{"run_id": "repro/gmail-1", "pipelines": ["align"]}')
    (tmp_path / "repro/frozen-0/alignment_history.csv").write_text("\n")  # nothing was trained
    (tmp_path / "repro/notes").mkdir()
    runs = {(run.name, run.seed): run for run in read_runs(tmp_path / "repro")}
    assert len(runs) == 6 and runs["gmail", 1].gap == {"scores": {}} and runs["gmail", 1].tsne is None
    assert ("gmail", 2) not in runs  # it is not finished: it has no run.json
    assert runs["frozen", 0].histories == {} and list(runs["gmail", 0].histories) == ["alignment"]


def test_numbers_that_are_not_there_are_dashes_with_a_reason():
    (table, *_) = shown_tables(result_table())
    blocked = table["rows"][1]["cells"][2]
    assert [blocked[key] for key in ("ours", "interval", "effect", "reason")] == ["—", "", "", NO_SPICE]
    assert table["rows"][1]["status"] == "run in part" and table["notes"] == [NO_SPICE]
    unsaid = only_cell(ours=np.nan)
    assert (unsaid["ours"], unsaid["reason"]) == ("—", "no number was left by the run")
    apart = only_cell(effect=np.nan, reason="another split")
    assert (apart["ours"], apart["effect"], apart["reason"]) == ("76.2", "", "another split")


def only_cell(**changes: object) -> dict[str, str]:
    return shown_tables(pd.DataFrame([cell(**changes)]))[0]["rows"][0]["cells"][0]


def test_measures_are_called_what_the_paper_calls_them():
    assert [label(name) for name in ("cider", "t2i_r5", "flickr_i2t_r1", "paired_cosine")] == [
        "CIDEr",
        "text → image R@5",
        "Flickr30k: image → text R@1",
        "paired cosine",
    ]


def test_a_table_with_a_hole_is_refused():
    with pytest.raises(ValueError, match="'ClipCap' of table 1 must have each column once"):
        shown_tables(result_table().drop(index=0))


def test_markdown_has_every_table_with_its_marks():
    text = render_markdown(result_table(), NOTES)
    assert "| row | status | seeds | BLEU-4 | CIDEr | SPICE |\n|---|---|---|---|---|---|\n| ClipCap |" in text
    line = next(line for line in text.splitlines() if line.startswith("| ClipCap + GMAIL |"))
    assert line.count(" | ") == 5 and "● |" in line and "| run in part |" in line
    assert text.count(NO_SPICE) == 1 and f"- {NO_SPICE} (table 1: SPICE" in text
    assert "## Ours 101: Ways to align" in text and NOTES[1] in text
    assert "- Table 1, ClipCap + GMAIL against ClipCap: ○ BLEU-4, ● CIDEr, – SPICE" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra dev: playwright")
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"needs a browser on the PATH, one of {', '.join(BROWSERS)}")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_the_page_without_complaint(
    browser: Any, page: str, tmp_path: Path, size: dict[str, int], scheme: str
):
    path = tmp_path / "report.html"
    path.write_text(page, encoding="utf-8")
    opened = browser.new_context(viewport=size, color_scheme=scheme, offline=True).new_page()
    complaints: list[str] = []
    requests: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(path.as_uri())
    assert complaints == []
    assert [address for address in requests if not address.startswith("data:")] == [path.as_uri()]
    assert opened.evaluate("document.documentElement.scrollWidth") == size["width"]
    overflowing = "[...document.querySelectorAll('.scroll')].filter(box => box.scrollWidth > box.clientWidth).length"
    assert (opened.evaluate(overflowing) > 0) == (size is PHONE)  # wide tables scroll inside their box
    broken = "[...document.images].filter(image => !image.naturalWidth).length"
    assert opened.evaluate(broken) == 0
    light, dark = "rgb(251, 250, 246)", "rgb(21, 24, 27)"
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == (dark if scheme == "dark" else light)
