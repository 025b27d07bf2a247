"""What makes a stage stale is what its command imports: held against the import graph of another library."""

import re
import shutil
from pathlib import Path

import grimp
import pytest
import yaml

from gmail_kedro.pipeline_registry import register_pipelines

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src/gmail_kedro"
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
COMMANDS = {name: stage.get("do", stage) for name, stage in STAGES.items() if name != "code"}


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("gmail_kedro", cache_dir=None)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from gmail_kedro.commands.code_lists import write_code_lists

    folder = tmp_path_factory.mktemp("code")
    write_code_lists(ROOT, folder)
    return folder


def catalog() -> dict[str, dict]:
    files = [yaml.safe_load(path.read_text()) for path in sorted(ROOT.glob("conf/base/catalog*.yml"))]
    return {name: entry for content in files for name, entry in content.items() if not name.startswith("_")}


def command_modules(command: str) -> set[str]:
    """Returns the modules of the nodes and datasets of the pipelines that a stage's command runs."""
    rows = yaml.safe_load((ROOT / "conf/base/experiments.yml").read_text())["runs"].values()
    names = {"set": {"generation"}, "run": {"experiment"}.union(*(row.get("pipelines", ()) for row in rows))}
    asked = re.search(r"--pipeline=(\w+)", command)
    nodes = [
        node
        for name in ({asked[1]} if asked else names[command.split()[1]])
        for node in register_pipelines()[name].nodes
    ]
    entries, used = catalog(), {name for node in nodes for name in (*node.inputs, *node.outputs)}
    kinds = {entries[name]["type"].rpartition(".")[0] for name in used if name in entries}
    runner = {"gmail_kedro.commands.runs"} if command.startswith("gmail-kedro run") else set()
    return {name for name in {node.func.__module__ for node in nodes} | kinds | runner if "gmail_kedro" in name}


def covered_by(deps: list[str], lists: Path) -> set[str]:
    """Returns the files of the package that dependencies of a stage stand for."""
    found: set[str] = set()
    for dep in deps:
        if dep.startswith("data/code/"):
            lines = (lists / Path(dep).name).read_text().splitlines()
            found |= {f"src/gmail_kedro/{line.rsplit(' ', 1)[0]}" for line in lines}
        elif dep.startswith("src/"):
            path = ROOT / dep
            inside = path.rglob("*.py") if path.is_dir() else [path]
            found |= {each.relative_to(ROOT).as_posix() for each in inside}
    return found


@pytest.mark.reliability(28)
@pytest.mark.parametrize("stage", COMMANDS)
def test_a_stage_waits_for_every_file_that_its_command_imports(
    graph: grimp.ImportGraph, stage: str, request: pytest.FixtureRequest
):
    has_list = any(dep.startswith("data/code/") for dep in COMMANDS[stage]["deps"])
    covered = covered_by(COMMANDS[stage]["deps"], request.getfixturevalue("lists") if has_list else ROOT)
    reached = command_modules(COMMANDS[stage]["cmd"])
    for name in tuple(reached):
        reached |= graph.find_upstream_modules(name)
    reached = {name for name in reached if not re.search(r"pipelines\.\w+(\.pipeline)?$|pipeline_registry", name)}
    paths = {Path("src", *name.split(".")) for name in reached}
    files = {path / "__init__.py" if (ROOT / path).is_dir() else path.with_suffix(".py") for path in paths}
    uncovered = sorted(file.as_posix() for file in files if file.as_posix() not in covered)
    assert len(files) > 5
    assert not uncovered, f"no dependency of the stage {stage} covers " + ", ".join(uncovered)


def test_every_stage_waits_for_its_own_list_and_the_lists_for_all_that_is_in_them(lists: Path):
    outs = sorted(f"data/code/{path.name}" for path in lists.iterdir())
    assert STAGES["code"]["outs"] == outs
    catalogs = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("conf/base/catalog*.yml"))
    assert STAGES["code"]["deps"] == ["src/gmail_kedro", *catalogs]
    for name, stage in COMMANDS.items():
        code = [path for path in stage["deps"] if path.startswith(("data/code", "src/")) and "weights" not in path]
        assert code == [f"data/code/{name if name == 'mini_world' else name.split('_')[0]}.txt"]


def test_the_lists_hold_wiring_data_and_entries_and_nothing_that_comes_later(lists: Path):
    run = {line.rsplit(" ", 1)[0] for line in (lists / "run.txt").read_text().splitlines()}
    for line in ("settings.py", "configuration/loader.py", "images/decoding.py", "mini/world/worlds.py",
                 "corpora/prompts/templates.json", "pipelines/alignment/nodes.py", "commands/runs.py",
                 "node align", "catalog adapter", "catalog _run"):  # fmt: skip
        assert line in run, line
    later = ("mini/weights", "mini/pretraining/pretrain", "pipelines/reporting/reproduction_nodes", "__pycache__")
    assert not [line for line in run if any(part in line for part in later)]
    assert "catalog adapter" not in (lists / "generation.txt").read_text()


@pytest.mark.reliability(28)
def test_comments_change_no_hash_and_code_data_and_entries_do(tmp_path: Path):
    from gmail_kedro.commands.code_lists import code_lines, read_catalog, stage_roots, wiring_lines

    source, entries = tmp_path / "gmail_kedro", read_catalog(ROOT)
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    roots = stage_roots("generation", entries)

    def listed() -> dict[str, str]:
        return dict(line.rsplit(" ", 1) for line in code_lines(source, roots))

    before = listed()
    module, templates = source / "models/generators/known_generators.py", source / "corpora/prompts/templates.json"
    text = module.read_text()
    module.write_text(text.replace('"""', '"""Other words. ', 1) + "# a comment\n\n\n")
    assert listed() == before
    module.write_text(f"{text}\nNEW = 1\n")
    templates.write_text("{}")
    after = listed()
    assert {path for path in after if after[path] != before[path]} == {
        "models/generators/known_generators.py",
        "corpora/prompts/templates.json",
    }
    pairing = {line.rsplit(" ", 1)[0] for line in code_lines(source, stage_roots("pairing", entries))}
    assert "models/generators/known_generators.py" not in pairing and "generated_sets/pairing.py" in pairing
    lines = wiring_lines("generation", entries)
    layer = entries | {"corpus": entries["corpus"] | {"metadata": {"kedro-viz": {"layer": "other"}}}}
    assert wiring_lines("generation", layer) == lines  # only Kedro-Viz shows it
    moved = entries | {"corpus": entries["corpus"] | {"filepath": "data/01_raw/other"}, "adapter": {"type": "x.Y"}}
    assert set(lines) - set(wiring_lines("generation", moved)) == {
        next(line for line in lines if line.startswith("catalog corpus "))
    }


def test_a_stage_cannot_hang_on_a_module_that_is_not_there():
    from gmail_kedro.commands.code_lists import code_lines

    with pytest.raises(ValueError, match=r"There is no \['pipelines.gone'\]"):
        code_lines(SOURCE, {"pipelines.gone", "definitions"})
