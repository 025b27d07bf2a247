"""What code a stage of dvc.yaml hangs on: every module that its pipelines import, by a hash of what it does.

A stage depends on its list and not on folders: a folder leaves out what is imported from elsewhere and holds what is
not. Comments, docstrings and layout are not in the hash, so they make nothing stale.
"""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

PACKAGE = "gmail_kedro"
# Of every stage; what they import is not.
WIRING = ("settings", "hooks.catalog_hooks", "hooks.run_hooks", "definitions", "configuration")
WEIGHTS = "mini/weights"  # dependencies of their own
STAGES: dict[str, tuple[str, ...]] = {
    "mini_world": ("pipelines.mini_world", "datasets.mini_world"),
    "generation": (
        "pipelines.generation",
        "datasets.mini_world",
        "datasets.blocks",
        "datasets.folder",
        "datasets.image_shards",
    ),
    "pairing": ("pipelines.pairing", "datasets.blocks"),
    "run": (
        *(f"pipelines.{name}" for name in ("alignment", "classification", "diagnostics", "downstream", "evaluation")),
        *(f"pipelines.{name}" for name in ("reporting", "transfer", "vision_language")),
        "commands.runs",
        "datasets",
    ),
    "tables": ("pipelines.reporting", "datasets.folder"),
    "report": ("pipelines.reporting", "datasets.folder"),
}
WITHOUT = {"run": ("pipelines.reporting.reproduction_nodes",)}  # they come after the runs


def code_list(source: Path, roots: Iterable[str], without: Iterable[str] = ()) -> str:
    """Returns a line for every file that roots import, directly or not: its hash, and its path in the package.

    Args:
        source: The package's folder.
        roots: Modules of the package, without its name; a package stands for all its modules.
        without: Modules that are left out, with what only they import; a package stands for all its modules.
    """
    modules = {_name(path.relative_to(source)): path for path in source.rglob("*.py")}
    for out in without:
        modules = {name: path for name, path in modules.items() if not f"{name}.".startswith(f"{out}.")}
    reached: set[str] = set()
    waiting = [name for root in roots for name in modules if name == root or name.startswith(f"{root}.")]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += [found for found in _imports(modules[name], name, modules) if found not in reached]
    reached |= {name for name in modules if any(f"{name}.".startswith(f"{wired}.") for wired in WIRING)}
    files = {modules[name] for name in reached}
    rooms = {source / path.relative_to(source).parts[0] for path in files} - files
    files |= {path for room in rooms for path in room.rglob("*") if _is_data(path.relative_to(source), path)}
    lines = sorted(f"{path.relative_to(source).as_posix()} {_hash(path)}" for path in files)
    return "\n".join(lines) + "\n"


def write_code_lists(source: Path, folder: Path) -> None:
    """Writes the list of every stage, as ``<stage>.txt``.

    Args:
        source: The package's folder.
        folder: Where they go.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for stage, roots in STAGES.items():
        lines = code_list(source, roots, WITHOUT.get(stage, ()))
        (folder / f"{stage}.txt").write_text(lines, encoding="utf-8")


def _name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _is_data(inside: Path, path: Path) -> bool:
    kept = not inside.as_posix().startswith(WEIGHTS) and "__pycache__" not in inside.parts
    return kept and path.is_file() and path.suffix not in (".py", ".pyc")


def _imports(path: Path, name: str, modules: Iterable[str]) -> Iterator[str]:
    """Yields what a module imports of the package, anywhere in it, and the packages that it lies in."""
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
    parts = name.split(".")
    yield from (outer for end in range(len(parts)) if (outer := ".".join(parts[:end])) in modules)


def _hash(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".py":
        tree = ast.parse(content)
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = node.body[1:] if ast.get_docstring(node) is not None else node.body
        content = ast.dump(tree).encode()
    return hashlib.sha256(content).hexdigest()
