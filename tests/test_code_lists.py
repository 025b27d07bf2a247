"""What makes a stage stale is what its pipelines import: held against the import graph of another library."""

import shutil
from pathlib import Path

import grimp
import pytest
import yaml

from gmail_kedro.code_lists import STAGES, WIRING, WITHOUT, code_list, write_code_lists

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src/gmail_kedro"


def listed(source: Path, stage: str) -> dict[str, str]:
    lines = code_list(source, STAGES[stage], WITHOUT.get(stage, ())).splitlines()
    return dict(line.rsplit(" ", 1) for line in lines)


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("gmail_kedro", cache_dir=None)


@pytest.mark.reliability(28)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_hangs_on_everything_that_its_pipelines_import(graph: grimp.ImportGraph, stage: str):
    whole = code_list(SOURCE, STAGES[stage])  # with what is left out on purpose
    files = {line.rsplit(" ", 1)[0] for line in whole.splitlines()}
    roots = [f"gmail_kedro.{root}" for root in STAGES[stage]]
    reached = {name for name in graph.modules if any(f"{name}.".startswith(f"{root}.") for root in roots)}
    for name in tuple(reached):
        reached |= graph.find_upstream_modules(name)
    paths = {name.removeprefix("gmail_kedro").lstrip(".").replace(".", "/") for name in reached}
    missing = {path for path in paths if f"{path}.py" not in files and f"{path}/__init__.py".lstrip("/") not in files}
    assert len(paths) > 10 and missing == set()


def test_what_a_run_leaves_out_is_what_comes_after_it():
    run, whole = listed(SOURCE, "run"), code_list(SOURCE, STAGES["run"])
    gone = {line.rsplit(" ", 1)[0] for line in whole.splitlines()} - run.keys()
    rooms = {path.split("/")[0] for path in gone}
    assert rooms <= {"pipelines", "preflight", "reporting", "metrics", "models", "tracking"}, gone
    for path in ("images/decoding.py", "hardware.py", "params/run.py", "evaluation/splits.py",
                 "generated_sets/shard_images.py", "mini/worlds.py",
                 "corpora/prompts/templates.json", "pipelines/alignment/nodes.py"):  # fmt: skip
        assert path in run
    assert not any(path.startswith("mini/weights") or "__pycache__" in path for path in run)
    assert {
        f"{name.replace('.', '/')}.py" for name in WIRING if (SOURCE / f"{name.replace('.', '/')}.py").is_file()
    } <= run.keys()


@pytest.mark.reliability(28)
def test_comments_change_no_hash_and_code_and_data_do(tmp_path: Path):
    source = tmp_path / "gmail_kedro"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("weights", "__pycache__"))
    before = listed(source, "generation")
    generators, templates = (
        source / "models/generators/diffusers_generators.py",
        source / "corpora/prompts/templates.json",
    )
    text = generators.read_text()
    generators.write_text(text.replace('"""', '"""Other words. ', 1) + "# a comment\n\n\n")
    assert listed(source, "generation") == before
    generators.write_text(f"{text}\nNEW = 1\n")
    templates.write_text("{}")
    after = listed(source, "generation")
    assert {path for path in after if after[path] != before[path]} == {
        "models/generators/diffusers_generators.py",
        "corpora/prompts/templates.json",
    }
    pairing = listed(source, "pairing")
    assert "models/generators/diffusers_generators.py" not in pairing and "generated_sets/pairing.py" in pairing


def test_every_stage_of_dvc_waits_for_its_own_list(tmp_path: Path):
    write_code_lists(SOURCE, tmp_path)
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["code"]["outs"] == [f"data/code/{name}" for name in sorted(path.name for path in tmp_path.iterdir())]
    for name, stage in stages.items():
        deps = stage.get("do", stage)["deps"]
        code = [path for path in deps if path.startswith(("data/code", "src/")) and "mini/weights" not in path]
        expected = ["src/gmail_kedro"] if name == "code" else [f"data/code/{name.split('_')[0]}.txt"]
        assert code == (expected if name != "mini_world" else ["data/code/mini_world.txt"])
