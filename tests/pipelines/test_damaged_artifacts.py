"""Every file that the project writes, with a byte changed, cut in half and emptied: its reader says so, by its name.

What the readers say is in docs/damage.md, which is held here. To renew it, delete it and run this module.
"""

import itertools
import logging
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from kedro.io import DatasetError

from gmail_kedro.commands import runs
from gmail_kedro.commands.project import Project
from gmail_kedro.engine import loop
from gmail_kedro.engine.inference import FeatureStore

from .artifact_readers import KINDS, Kind, Written, kind_of, tuned_classifiers, tuned_llava
from .conftest import TINY, Run

SAMPLES = 4  # files of a kind
DAMAGES: dict[str, Callable[[bytes, int], bytes]] = {
    "one byte changed": lambda whole, place: whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
    "cut in half": lambda whole, place: whole[: len(whole) // 2],
    "emptied": lambda whole, place: b"",
}
OTHER_RUNS = ("stopped", "repro/frozen-0")


@pytest.fixture(scope="module")
def written(project: Path, tmp_path_factory: pytest.TempPathFactory, run_in: Run) -> Written:
    """A copy of the finished project in which every other pipeline has left its files, too."""
    root = tmp_path_factory.mktemp("damaged") / "project"
    shutil.copytree(project, root, ignore=leave_other_runs(project / "data"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        run_in(root, "transfer", "comparison", run_id="main", baseline="main")
        stop_a_training(root, run_in)
        catalogs = {run_id: catalog_of(root, run_id) for run_id in ("main", *OTHER_RUNS)}
        found = Written(root / "data", catalogs)
        write_what_takes_long(found)
        patch.setattr(runs, "run_pipelines", lambda *_: copy_run(root))
        runs.run_cell(Project(root), "frozen", 0)
        run_in(root, "tables")
    found.remember_tensors()
    return found


def leave_other_runs(data: Path) -> Callable[[str, list[str]], list[str]]:
    """What other tests ran in the project is no part of this."""
    kept = {"main", "mini_sd", "summary.md"}

    def ignored(folder: str, names: list[str]) -> list[str]:
        above = Path(folder)
        of_runs = above.parent == data and above.name[:2] in ("02", "03", "06", "07", "08")
        return [name for name in names if of_runs and name not in kept]

    return ignored


def stop_a_training(root: Path, run_in: Run) -> None:
    take = loop._take_step

    def stop(step, index, *args):
        if index == 5:
            raise RuntimeError("stopped")
        return take(step, index, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_take_step", stop)
        with pytest.raises(RuntimeError, match="stopped"):
            run_in(root, "align", run_id="stopped")


def catalog_of(root: Path, run_id: str):
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(root)
    with KedroSession.create(
        project_path=root, runtime_params=TINY | {"run_id": run_id, "baseline": "main"}
    ) as session:
        return session.load_context().catalog


def write_what_takes_long(written: Written) -> None:
    """Stores, through the catalog, what only a training of minutes would leave, and what one leaves half done."""
    catalog = written.catalogs["stopped"]
    catalog["classifiers"].save(tuned_classifiers(written.synclr))
    catalog["vision_language_model"].save(tuned_llava())
    for name, source in (("history", "captioner_history"), ("scores", "transfer_scores"), ("items", "transfer_items")):
        catalog[f"vision_language_{name}"].save(written.load(source))
    catalog["vision_language_predictions"].save({"captions": written.load("predictions")})
    written.remember_tensors()
    of, tensors = next((facts["of"], held) for held, facts in written.tensors.values() if "of" in facts)
    FeatureStore(written.data / "04_feature").write_part(of | {"kind": "half done"}, 0, tensors["features"][:1])


def copy_run(root: Path) -> None:
    """What a cell of the reproduction leaves is what any run does."""
    for room in ("07_model_output", "08_reporting"):
        shutil.copytree(root / "data" / room / "main", root / "data" / room / "repro/frozen-0", dirs_exist_ok=True)


def files_by_kind(written: Written) -> dict[Kind, list[Path]]:
    found, unknown = defaultdict(list), []
    for path in sorted(path for path in written.data.rglob("*") if path.is_file()):
        name = path.relative_to(written.data).as_posix()
        kind = kind_of(name)
        found[kind].append(path) if kind else unknown.append(name)
    assert not unknown, f"of no kind; put them into artifact_readers.KINDS with what reads them: {unknown}"
    return found


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The project's warnings while a test runs."""
    told: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: told.append(record.getMessage())
    logging.getLogger("gmail_kedro").addHandler(handler)
    yield told
    logging.getLogger("gmail_kedro").removeHandler(handler)


def listen(written: Written, kind: Kind, path: Path, said: list[str]) -> str:
    """Returns what the reader says, without the words that Kedro puts around it: they name any file."""
    said.clear()
    try:
        answer = kind.read(written, path)
        return " ".join(said) or (answer if isinstance(answer, str) else "")
    except Exception as error:
        while isinstance(error, DatasetError) and error.__cause__ is not None:
            error = error.__cause__
        return " ".join([*said, str(error)])


def shorten(told: str, path: Path) -> str:
    """Returns the first sentence without what depends on bytes or on other libraries: folders, hashes, their words."""
    made_anew = ", and made anew" if re.search("(computed|trained) anew", told) else ""
    while told != (told := re.sub(r" \([^()]*\)", "", told)):
        continue
    told = re.sub(r"(?<![\w`])/?(?:[\w.+@-]+/)+", "", told).replace(path.name, "…")
    told = re.sub(r"'?\b(?:[A-Za-z]+_)*[0-9]+(?:_[0-9]+)?\.jpg'?", "a picture", told)
    told = re.sub(r" 'mini_\w+'", "", told)
    told = re.split(r"[.;] (?=[A-Z]|run )", f"{told} ")[0].strip().rstrip(".")
    return re.sub(r"(?<=damaged|written| stored): (?!the one before).*", "", told) + made_anew


def damaged(written: Written, kind: Kind, path: Path, said: list[str], silent: list[str]) -> list[str]:
    """Returns what the reader says of each damage; the file is whole again afterwards."""
    whole = path.read_bytes()
    place = len(whole) // 2 if kind.place is None else kind.place(written, path)
    if path.name in (heard := listen(written, kind, path, said)) and "written anew" not in heard:
        silent.append(f"{path} is whole, and called damaged: {heard}")
    answers = []
    for damage, change in DAMAGES.items():
        path.write_bytes(change(whole, place) if whole else b"\n")
        told = listen(written, kind, path, said)
        answers.append(shorten(told, path))
        if path.name not in told:
            silent.append(f"{path} with {damage}: {told or 'not a word'}")
        if "anew" in told and ".parts" not in str(path) and path.read_bytes() != whole:
            silent.append(f"{path} is not made anew as it was")
        path.write_bytes(whole)
    return answers


def render(rows: list[tuple[str, str, list[list[str]]]]) -> str:
    lines = [
        "# What is said of damaged files",
        "",
        "Each kind of file that the project writes below `data/` was damaged in three ways and read again, as runs and",
        "commands do. The table has the beginning of what they said; … is the name of the file. What only people read",
        "is not checked. `tests/pipelines/test_damaged_artifacts.py` holds the table, and fails where a file is used",
        "without a word.",
        "",
        f"| file | read by | {' | '.join(DAMAGES)} |",
        "|---|---|---|---|---|",
    ]
    for pattern, reader, answers in rows:
        cells = [" *or* ".join(dict.fromkeys(each)) for each in zip(*answers, strict=True)] or ["—"] * len(DAMAGES)
        shown = [cells[0], *("the same" if new == old != "—" else new for old, new in itertools.pairwise(cells))]
        lines.append(f"| `{pattern}` | {reader} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


@pytest.mark.reliability(16)
@pytest.mark.reliability(19)
@pytest.mark.reliability(28)
def test_no_damaged_file_is_used_silently(written: Written, said: list[str], repository: Path):
    found = files_by_kind(written)
    assert [kind.pattern for kind in KINDS if kind not in found] == [], "nothing of these kinds was written"
    rows, silent = [], []
    for kind in KINDS:
        files = found[kind][:: max(1, len(found[kind]) // SAMPLES)] if kind.read else []
        rows.append((kind.pattern, kind.reader, [damaged(written, kind, path, said, silent) for path in files]))
    assert not silent, "used silently, or not named:\n" + "\n".join(silent)
    table, document = render(rows), repository / "docs/damage.md"
    print(table)
    if not document.is_file():
        document.write_text(table, encoding="utf-8")
        pytest.fail(f"{document} was not there and is written: read it")
    assert table == document.read_text(encoding="utf-8"), "delete docs/damage.md and run this again"
