"""The house rules that a machine can check."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src" / "gmail_kedro").rglob("*.py"))
FILES = SOURCES + sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))
FILE_LINES = 400
FUNCTION_LINES = 60
VAGUE_NAMES = {"utils", "util", "helpers", "helper", "misc", "common"}
LIBRARIES = {"open_clip", "diffusers", "transformers", "peft", "torchvision", "sklearn", "matplotlib", "ray"}

INSPECT_REGISTRY = """
import json, sys
from typing import get_type_hints
from gmail_kedro.pipeline_registry import register_pipelines

pipelines = register_pipelines()
imported = sorted(set(sys.argv[1:]) & set(sys.modules))
problems = {}
for function in {node.func for pipeline in pipelines.values() for node in pipeline.nodes}:
    try:
        get_type_hints(function)
    except NameError as error:
        problems[function.__name__] = str(error)
print(json.dumps({"pipelines": sorted(pipelines), "imported": imported, "problems": problems}))
"""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def walk_public(tree: ast.AST, owner: ast.ClassDef | None = None) -> Iterator[tuple[ast.AST, ast.ClassDef | None]]:
    """Public classes and functions with the class they are in, functions inside functions left out."""
    for node in ast.iter_child_nodes(tree):
        is_public = isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_")
        if is_public and not any(ast.unparse(decorator).endswith(".setter") for decorator in node.decorator_list):
            yield node, owner
            if isinstance(node, ast.ClassDef):
                yield from walk_public(node, node)


def find_init(owner: ast.ClassDef) -> ast.FunctionDef | None:
    return next((node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == "__init__"), None)


def argument_names(function: ast.FunctionDef, *, is_method: bool) -> list[str]:
    arguments = function.args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    is_static = any(getattr(decorator, "id", "") == "staticmethod" for decorator in function.decorator_list)
    names = names[1:] if is_method and not is_static else names
    names += [f"*{arguments.vararg.arg}"] if arguments.vararg else []
    names += [argument.arg for argument in arguments.kwonlyargs]
    return names + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def section_names(docstring: str, section: str) -> list[str]:
    """The names that a Google-style section lists, in order; empty without the section."""
    lines = docstring.splitlines()
    if f"{section}:" not in lines:
        return []
    names = []
    for line in lines[lines.index(f"{section}:") + 1 :]:
        if line and not line.startswith("    "):
            break
        if line.startswith("    ") and not line.startswith("     "):
            names.append(line.strip().partition(":")[0])
    return names


def is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def field_names(node: ast.ClassDef) -> list[str]:
    annotated = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    return [
        item.target.id
        for item in annotated
        if "ClassVar" not in ast.unparse(item.annotation) and not item.target.id.startswith("_")
    ]


def test_imports_keep_the_contracts():
    program = (
        "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True, no_logo=True))"
    )
    # In a process of its own: the linter configures logging for good.
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout


def test_sources_were_found():
    assert len(SOURCES) > 20


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_are_short_and_named_for_what_they_hold(path: Path):
    assert path.stem not in VAGUE_NAMES
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_functions_are_short(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            first = node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
            assert node.end_lineno - first.lineno + 1 <= FUNCTION_LINES, f"{node.name} is too long"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_public_names_are_documented_as_they_are(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the module has no docstring"
    for node, owner in walk_public(tree):
        docstring = ast.get_docstring(node)
        assert docstring, f"{node.name} has no docstring"
        function = find_init(node) if isinstance(node, ast.ClassDef) else node
        if "Args:" in docstring.splitlines() and function is not None:
            is_method = owner is not None or isinstance(node, ast.ClassDef)
            assert section_names(docstring, "Args") == argument_names(function, is_method=is_method), node.name
        if isinstance(node, ast.ClassDef) and is_dataclass(node) and "Attributes:" in docstring.splitlines():
            missing = set(field_names(node)) - set(section_names(docstring, "Attributes"))
            assert not missing, f"{node.name} does not document {sorted(missing)}"


@pytest.fixture(scope="module")
def registry() -> dict:
    """What a fresh interpreter finds in the registry, and what it had to import for that."""
    command = [sys.executable, "-c", INSPECT_REGISTRY, *LIBRARIES]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout.splitlines()[-1])


def test_registry_names_every_pipeline(registry: dict):
    parts = {"mini_world", "generation", "pairing", "alignment", "downstream", "diagnostics", "evaluation"}
    parts |= {"fine_tuning", "reporting", "pretraining", "report", "tables", "transfer", "vision_language"}
    assert parts | {"align", "comparison", "experiment", "gmail", "stages", "__default__"} == set(registry["pipelines"])


def test_registry_imports_no_model_library(registry: dict):
    assert registry["imported"] == []


def test_kedro_can_read_the_types_of_every_node(registry: dict):
    """Kedro validates a node's parameters only if every annotation resolves at run time; otherwise it passes dicts."""
    assert registry["problems"] == {}
