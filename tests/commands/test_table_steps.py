"""`gmail-kedro table`: the commands of a table are DVC's, in an order that works, and what is done is not run again."""

import itertools
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from gmail_kedro.commands import main, runs
from gmail_kedro.commands.project import Project
from gmail_kedro.commands.table_steps import plan_tables, run_tables
from gmail_kedro.generated_sets.stored_images import SetDescription
from gmail_kedro.reporting.table_definitions import read_tables

ROOT = Path(__file__).resolve().parents[2]
PROFILES = {"base": Project(ROOT), "paper": Project(ROOT, "paper")}
RUN = re.compile(r"gmail-kedro run (?P<name>\S+) --seed (?P<seed>\d+)")
SET = re.compile(r'(?P<step>set make|--pipeline=pairing) (--params="set=)?(?P<set>\w+)')


def commands_of(project: Project, *numbers: int) -> list[str]:
    tables = {table.number: table for table in read_tables(project.define("tables"))}
    return [step.command for step in plan_tables(project, [tables[number] for number in numbers or tables])]


def dvc_commands() -> set[str]:
    """The commands of every stage of dvc.yaml, as DVC fills them in from the files that it names."""
    stages_file = yaml.safe_load((ROOT / "dvc.yaml").read_text())
    base = {name: yaml.safe_load((ROOT / f"conf/base/{name}.yml").read_text()) for name in ("sets", "seeds")}
    reproduce = stages_file["vars"][-1]["reproduce"]
    found = set()
    for stage in stages_file["stages"].values():
        if "foreach" in stage:
            for key in base["sets"]["sets"]:
                found.add(stage["do"]["cmd"].replace("${key}", key))
        elif "matrix" in stage:
            names = reproduce[stage["matrix"]["name"].removeprefix("${reproduce.")[:-1]]
            for name, seed in itertools.product(names, base["seeds"]["seeds"]):
                found.add(stage["cmd"].replace("${item.name}", name).replace("${item.seed}", str(seed)))
        else:
            found.add(stage["cmd"])
    return found


def test_on_the_mini_world_they_are_the_stages_of_dvc():
    numbers = [number for number in PROFILES["base"].define("tables")["tables"] if number != 106]  # asks for more seeds
    listed = commands_of(PROFILES["base"], *numbers)
    assert len(listed) == len(set(listed))
    assert {*listed, "kedro run --pipeline=report", "gmail-kedro code"} == dvc_commands()


def test_seeds_that_a_table_asks_for_are_run_too():
    assert {int(found["seed"]) for found in map(RUN.match, commands_of(PROFILES["base"], 106)) if found} == {0, 1, 2}


@pytest.mark.parametrize("number", range(1, 18))
@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_comes_before_what_it_waits_for(profile, number):
    project = PROFILES[profile]
    done = set()
    for command in commands_of(project, number):
        assert ("--env paper" in command) == (profile == "paper")
        run, of_set = RUN.match(command), SET.search(command)
        if run:
            row = runs.find_run(project, run["name"])
            assert ("pairing", row.get("set", project.default_set)) in done
            assert "starts_from" not in row or (row["starts_from"], run["seed"]) in done
            done.add((run["name"], run["seed"]))
        elif of_set:
            pipeline = "generation" if of_set["step"] == "set make" else "pairing"
            assert pipeline == "generation" or ("generation", of_set["set"]) in done
            assert profile == "paper" or "mini_world" in done
            done.add((pipeline, of_set["set"]))
        else:
            done.add(command.rpartition("=")[2])
    rows = PROFILES[profile].define("tables")["tables"][number]["rows"].values()
    assert {(row["run"], "0") for row in rows} <= done
    assert command.endswith("--pipeline=tables")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A copy of the configuration whose pipelines only leave their files, and the list of what was started."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    started = []

    def leave(path: str, content: str = "") -> None:
        file = tmp_path / "data" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def run(project, pipelines, parameters):
        name = parameters.get("run_id") or f"{pipelines[0]} {parameters.get('set', '')}".strip()
        started.append(name)
        if pipelines == ["mini_world"]:
            for corpus in ("mini_world", "mini_flickr", "mini_long_captions", "mini_scienceqa", "mini_mmmu"):
                leave(f"01_raw/{corpus}/world.json")
        elif pipelines == ["generation"]:
            made = SetDescription("f", {"generator": parameters["generation"]["generator"]}, 1, 0, {})
            leave(f"02_intermediate/{parameters['set']}/shards/set.json", json.dumps(asdict(made)))
            leave(f"02_intermediate/{parameters['set']}/card.json")
        elif pipelines == ["pairing"]:
            leave(f"03_primary/{parameters['set']}/pairs.parquet")
        elif "run_id" in parameters:
            leave(f"06_models/{name}/captioner/weights")
            leave(f"08_reporting/{name}/scores.json")

    monkeypatch.setattr(runs, "run_pipelines", run)
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path), started


def test_a_table_is_run_and_only_what_is_not_done_is_run_again(project):
    here, started = project
    run_tables(here, [17], dry_run=False)
    flux = ["repro/flux_tuned-0", "repro/flux_eq1_tuned-0"]
    sets = [f"{pipeline} {name}" for name in ("mini_sd", "mini_flux") for pipeline in ("generation", "pairing")]
    assert started == ["mini_world", *sets, "repro/clipcap_base-0", *flux, "tables"]
    started.clear()
    (here.root / "data/08_reporting/repro/flux_tuned-0/run.json").unlink()
    assert main(["table", "17"]) == 0
    assert started == ["repro/flux_tuned-0", "tables"]


def test_a_dry_run_runs_nothing_and_says_what_is_done(project, capsys):
    here, started = project
    assert main(["table", "8", "--dry-run"]) == 0 and started == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# Table 8: SigLIP on COCO captioning" and "done" not in "".join(lines)
    assert lines[-2] == "gmail-kedro run siglip_eq1_tuned --seed 0  # table 8, SigLIP + GMAIL; after siglip_base"
    run_tables(here, [8], dry_run=False)
    assert main(["table", "8", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("# done; ") == 5  # the corpus, the set, its pairs, two runs


def test_what_is_not_there_names_what_is(project, caplog):
    here, _ = project
    assert main(["table", "18"]) == 1 and "base has no table [18]. Known: [1, 2, 3" in caplog.text
    (here.root / "conf/paper/sets.yml").write_text("sets: {coco_flux: null}")
    assert main(["table", "17", "--env", "paper", "--dry-run"]) == 1
    assert "Profile paper, sets.yml: there is no 'coco'. There are: mini_flux" in caplog.text
