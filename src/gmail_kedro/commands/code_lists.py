"""What code a stage of dvc.yaml hangs on: all that its pipelines' nodes and datasets import, and how they are wired.

A stage depends on its list and not on folders: a folder leaves out what is imported from elsewhere and holds what is
not. Which modules begin a list is not said here either: the registry knows the nodes, and the catalog the datasets.
Comments, docstrings and layout are not in the hashes, so they make nothing stale.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

PACKAGE = "gmail_kedro"
# Of every stage; what they import is not: hooks look at every room, and change no result.
WIRING = ("settings", "hooks.catalog_hooks", "hooks.run_hooks", "definitions", "configuration")
# They import every node of a pipeline; a list has the lines of its own nodes in their place.
REGISTRATION = re.compile(r"pipeline_registry|pipelines\.\w+(\.pipeline)?|mini\.\w+\.pipeline")
WEIGHTS = "mini/weights"  # dependencies of their own
CATALOG = "conf/base/catalog*.yml"
STAGES: dict[str, tuple[str, ...]] = {  # the registered pipelines that the commands of a stage run
    "mini_world": ("mini_world",),
    "generation": ("generation",),
    "pairing": ("pairing",),
    "run": ("align", "experiment", "transfer", "vision_language"),
    "tables": ("tables",),
    "report": ("report",),
}
COMMANDS: dict[str, tuple[str, ...]] = {"run": ("commands.runs",)}  # what else decides on their results


def write_code_lists(root: Path, folder: Path) -> None:
    """Writes the list of every stage of a project, as ``<stage>.txt``."""
    folder.mkdir(parents=True, exist_ok=True)
    catalog = read_catalog(root)
    for stage in STAGES:
        lines = [*code_lines(root / "src" / PACKAGE, stage_roots(stage, catalog)), *wiring_lines(stage, catalog)]
        (folder / f"{stage}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_catalog(root: Path) -> dict[str, Any]:
    """Returns the entries of the base profile's catalog, and its names that begin with a low line, as they stand."""
    import yaml

    contents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(root.glob(CATALOG))]
    return {name: entry for content in contents for name, entry in content.items()}


def stage_roots(stage: str, catalog: Mapping[str, Any]) -> set[str]:
    """Returns the modules of a stage's nodes and of the datasets that they use, without the package's name."""
    functions = {node.func.__module__ for node in _nodes(stage)}
    kinds = [entry["type"] for entry in _entries(stage, catalog).values() if isinstance(entry, dict)]
    datasets = {kind.rpartition(".")[0] for kind in kinds}
    ours = {name for name in functions | datasets if name.startswith(f"{PACKAGE}.")}
    return {name.removeprefix(f"{PACKAGE}.") for name in ours} | set(COMMANDS.get(stage, ()))


def wiring_lines(stage: str, catalog: Mapping[str, Any]) -> list[str]:
    """Returns a line for every node of a stage and for every entry of the catalog that it uses."""
    # str(node) has its inputs and outputs: other wiring of the same functions is another result
    nodes = {f"node {node.name}": str(node) for node in _nodes(stage)}
    entries = {f"catalog {name}": entry for name, entry in _entries(stage, catalog).items()}
    return sorted(
        f"{name} {_hash(json.dumps(what, sort_keys=True).encode())}" for name, what in (nodes | entries).items()
    )


def code_lines(source: Path, roots: Iterable[str]) -> list[str]:
    """Returns a line for every file of a package that roots import, directly or not: its path in it, and its hash.

    Raises:
        ValueError: If there is no such module.
    """
    modules = {_name(path.relative_to(source)): path for path in source.rglob("*.py")}
    # Through the registry every stage would import all pipelines, and an edit anywhere would make all of them stale.
    modules = {name: path for name, path in modules.items() if not REGISTRATION.fullmatch(name)}
    if absent := sorted(set(roots) - modules.keys()):
        raise ValueError(f"The stages of dvc.yaml hang on modules that must be in {source}. There is no {absent}.")
    reached: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [found for found in _imports(modules[name], name, modules) if found not in reached]
    reached |= {name for name in modules if any(f"{name}.".startswith(f"{wired}.") for wired in WIRING)}
    files = {modules[name] for name in reached}
    # Word lists, templates and the like are read and not imported: those of a room count as soon as it is entered.
    rooms = {source / path.relative_to(source).parts[0] for path in files} - files
    files |= {path for room in rooms for path in room.rglob("*") if _is_data(path.relative_to(source), path)}
    return sorted(f"{path.relative_to(source).as_posix()} {_hash(_content(path))}" for path in files)


def _nodes(stage: str) -> list[Any]:
    from gmail_kedro.pipeline_registry import register_pipelines

    pipelines = register_pipelines()
    return [node for name in STAGES[stage] for node in pipelines[name].nodes]


def _entries(stage: str, catalog: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries that a stage's nodes use, and the texts that entries refer to, such as ``_run``."""
    # metadata is what Kedro-Viz and MLflow show of an entry; it changes no result
    used = {name for node in _nodes(stage) for name in (*node.inputs, *node.outputs)}
    return {
        name: {key: value for key, value in entry.items() if key != "metadata"} if isinstance(entry, dict) else entry
        for name, entry in catalog.items()
        if name in used or (name.startswith("_") and isinstance(entry, str))
    }


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_data(inside: Path, path: Path) -> bool:
    kept = not inside.as_posix().startswith(WEIGHTS) and "__pycache__" not in inside.parts
    return kept and path.is_file() and path.suffix not in (".py", ".pyc")


def _imports(path: Path, name: str, modules: Iterable[str]) -> Iterator[str]:
    """Yields what a module imports of the package, anywhere in it, and the packages that it lies in."""
    # Read and not run: heavy libraries are imported inside functions, where sys.modules would not show them.
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        else:
            continue
        for full in found:
            parts = full.split(".")[1:] if full.split(".")[0] == PACKAGE else []
            yield from (inner for end in range(len(parts) + 1) if (inner := ".".join(parts[:end])) in modules and parts)
    parts = name.split(".")  # importing a.b.c runs the __init__ of a and of a.b
    yield from (outer for end in range(len(parts)) if (outer := ".".join(parts[:end])) in modules)


def _content(path: Path) -> bytes:
    """Returns a file's bytes; of Python only what is done, not what is said about it."""
    content = path.read_bytes()
    if path.suffix != ".py":
        return content
    tree = ast.parse(content)  # which has dropped comments and layout
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return ast.dump(tree).encode()


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
