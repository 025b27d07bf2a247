"""Every row of the paper's tables at full size: one run, whose parameters, models, set and corpora all exist."""

from pathlib import Path
from typing import Any

import pytest
from kedro.config import OmegaConfigLoader

from gmail_kedro.commands.project import Project
from gmail_kedro.commands.runs import NO_PARAMETERS, find_run
from gmail_kedro.commands.table_steps import plan_tables
from gmail_kedro.configuration.parameter_groups import GROUPS, SETTINGS
from gmail_kedro.configuration.params_option import nest, parse_settings
from gmail_kedro.corpora.classification_sets import CLASS_SETS
from gmail_kedro.models.encoders.known_encoders import ENCODERS
from gmail_kedro.models.encoders.vision_only import load_clip_vision
from gmail_kedro.models.inventory import KINDS
from gmail_kedro.params.generation import GenerationParams
from gmail_kedro.pipeline_registry import register_pipelines
from gmail_kedro.preflight.requirements import MODELS, read_requirements
from gmail_kedro.reporting.table_definitions import read_tables
from gmail_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).resolve().parents[2]
PROFILES = {"base": Project(ROOT), "paper": Project(ROOT, "paper")}
PAPER = PROFILES["paper"]
TABLES = {name: {table.number: table for table in read_tables(one.define("tables"))} for name, one in PROFILES.items()}
ROWS = {(number, row.name): row.run for number, table in TABLES["paper"].items() for row in table.rows.values()}
SETS = {name: parse_settings(declared["params"]) for name, declared in PAPER.define("sets")["sets"].items()}
PIPELINES = register_pipelines()
KARPATHY = "coco_karpathy"
TRANSFER, QUESTIONS = {"flickr30k_whole", "sharegpt4v_1k"}, {"scienceqa", "mmmu"}


def changes_of(project: Project, name: str) -> dict[str, Any]:
    return {key: value for key, value in find_run(project, name).items() if key not in NO_PARAMETERS}


def compose(project: Project, changes: dict[str, Any]) -> OmegaConfigLoader:
    return OmegaConfigLoader(str(ROOT / "conf"), env=project.env, runtime_params=nest(changes), **CONFIG_LOADER_ARGS)


def pipelines_of(project: Project, name: str) -> list[str]:
    return find_run(project, name).get("pipelines", ["experiment"])


def runs_of(profile: str, number: int) -> list[str]:
    """The runs of a table, those that others go on from among them."""
    project = PROFILES[profile]
    steps = plan_tables(project, [TABLES[profile][number]])
    return [step.command.split()[2] for step in steps if step.command.startswith("gmail-kedro run")]


def needs_of(profile: str, number: int) -> dict[str, set[str]]:
    """The models and corpora that a table's runs and sets name, as its requirements should say them."""
    project, needs = PROFILES[profile], {kind: set() for kind in (*MODELS, "corpora")}
    sets = project.define("sets")["sets"]
    for name in runs_of(profile, number):
        changes, pipelines = changes_of(project, name), pipelines_of(project, name)
        parameters = compose(project, changes)["parameters"]
        needs["encoders"].add(parameters["run"]["encoder"])
        needs["language_models"] |= {parameters["downstream"]["language_model"]} if "experiment" in pipelines else set()
        asks = "vision_language" in pipelines
        needs["vision_language_models"] |= {parameters["vision_language"]["model"]} if asks else set()
        of_set = parse_settings(sets[changes.get("set", project.default_set)]["params"])
        generation = compose(project, of_set)["parameters"]["generation"]
        needs["generators"].add(generation["generator"])
        corpus = changes.get("corpus", KARPATHY)
        needs["corpora"] |= {corpus, changes.get("benchmark_corpus", corpus)}
        needs["corpora"] |= set(CLASS_SETS) if parameters["evaluation"].get("class_sets", []) is None else set()
        needs["corpora"] |= (TRANSFER if "transfer" in pipelines else set()) | (QUESTIONS if asks else set())
    return needs


def test_the_rows_are_the_papers_58_and_those_of_the_mini_world():
    papers = {key for key in ROWS if key[0] <= 17}
    assert len(papers) == 58
    for number, table in TABLES["base"].items():
        if number <= 17:
            assert list(TABLES["paper"][number].rows) == list(table.rows)
            assert TABLES["paper"][number].title == table.title
            assert all(
                str(TABLES["paper"][number].rows[name].paper) == str(row.paper) for name, row in table.rows.items()
            )


@pytest.mark.parametrize("name", sorted(set(ROWS.values())))
def test_a_row_resolves_to_parameters_models_a_set_and_corpora_that_exist(name):
    changes = changes_of(PAPER, name)
    assert changes.keys() - {"set", "corpus", "benchmark_corpus"} <= SETTINGS.keys()
    configuration = compose(PAPER, changes)
    parameters = configuration["parameters"]
    built = {name: group(**parameters[name]) for name, group in GROUPS.items() if name in parameters}
    flat = {key: value for group in built.values() for key, value in group.flat().items()}
    assert all(flat[key] == changes[key] for key in changes if "." in key)
    for kind in KINDS.values():
        group, field = kind.name_setting.split(".")
        model = getattr(built[group], field)
        assert model in kind.specs and not model.startswith("mini_")
    if "vision_language" in pipelines_of(PAPER, name):
        assert ENCODERS[built["run"].encoder].load is load_clip_vision
    of_set = SETS[changes.get("set", PAPER.default_set)]
    assert of_set["corpus"] == changes.get("corpus", KARPATHY)
    catalog = configuration["catalog"]
    assert catalog["corpus"]["dataset"] == catalog[of_set["corpus"]]
    assert catalog["benchmark_corpus"]["dataset"] == catalog[changes.get("benchmark_corpus", of_set["corpus"])]
    pipeline = sum((PIPELINES[part] for part in pipelines_of(PAPER, name)), start=PIPELINES["pairing"])
    wanted = {dataset for dataset in pipeline.inputs() if not dataset.startswith("params:")}
    assert {dataset.partition("@")[0] for dataset in wanted} <= {entry.partition("@")[0] for entry in catalog}
    assert all(dataset.split(":")[1].split(".")[0] in parameters for dataset in pipeline.inputs() - wanted)


@pytest.mark.parametrize("name", SETS)
def test_a_set_names_a_corpus_and_a_generator_that_exist(name):
    configuration = compose(PAPER, SETS[name] | {"set": name})
    generator = GenerationParams(**configuration["parameters"]["generation"]).generator
    assert generator in KINDS["generators"].specs and not generator.startswith("mini_")
    catalog = configuration["catalog"]
    for entry in ("corpus", "benchmark_corpus"):
        assert catalog[entry]["dataset"] == catalog[SETS[name].get(entry, SETS[name]["corpus"])]
    assert catalog["pairs"]["filepath"] == f"data/03_primary/{name}/pairs.parquet"


def test_every_other_run_of_the_profile_names_full_size_models_too():
    for name in PAPER.define("experiments")["runs"]:
        said = [value for value in find_run(PAPER, name).values() if isinstance(value, str)]
        assert not [value for value in said if value.startswith("mini_")], name
        assert find_run(PAPER, name).get("set", PAPER.default_set) in SETS, name


@pytest.mark.parametrize("number", range(1, 18))
@pytest.mark.parametrize("profile", PROFILES)
def test_what_a_table_requires_is_what_its_runs_name(profile, number):
    declared = read_requirements(ROOT / f"conf/{profile}/requirements.yml").tables[number]
    found = needs_of(profile, number)
    assert {kind: found[kind] for kind in MODELS} == {kind: set(getattr(declared, kind)) for kind in MODELS}
    if profile == "paper":
        assert found["corpora"] == set(declared.corpora)


@pytest.mark.parametrize("number", range(1, 18))
@pytest.mark.parametrize("profile", PROFILES)
def test_the_work_of_a_table_is_that_of_its_sets_and_runs(profile, number):
    requirements = read_requirements(ROOT / f"conf/{profile}/requirements.yml")
    declared, project, counted = requirements.tables[number].work, PROFILES[profile], {}
    names = runs_of(profile, number)
    if profile == "base":
        assert declared == {"one_run": len(names)}
        return
    for name in names:
        changes = changes_of(project, name)
        counted[f"set_{changes.get('set', project.default_set).removeprefix('coco_')}"] = 1
        is_large = "_l_14" in changes.get("run.encoder", "")
        work = ["tuning_large" if is_large else "tuning"]
        if "vision_language" in pipelines_of(project, name):
            work = ["tuning_large"] * (changes.get("alignment.tune") != "none")
            work += ["language_tuning"] * (changes.get("vision_language.training.steps") != 0)
        work += ["fine_tuning_imagenet"] * ("imagenet" in changes.get("fine_tuning.sets", ()))
        counted |= {one: counted.get(one, 0) + 1 for one in work}
    counted = {name.replace("set_train2014", "set_coco_train2014"): count for name, count in counted.items()}
    assert declared == counted


def test_backbones_are_those_of_the_published_baselines():
    encoders = {
        number: {
            compose(PAPER, changes_of(PAPER, name))["parameters"]["run"]["encoder"] for name in runs_of("paper", number)
        }
        for number in (2, 3, 4, 6, 7, 10, 14)
    }
    assert encoders[2] == encoders[3] == {"clip_vit_b_16", "long_clip_b"}
    assert encoders[4] == {"clip_vit_l_14", "synclr_vit_b_16"} and encoders[7] == {"clip_vit_b_16"}
    assert encoders[6] == encoders[14] == {"clip_vit_b_32"} and encoders[10] == {"clip_vision_l_14_336"}
