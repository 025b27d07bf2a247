"""What the profiles say they need is what catalog, models and parameters know; a wrong file is refused by name."""

from pathlib import Path

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.io import AbstractDataset

from gmail_kedro.corpora.classification_sets import CLASS_SETS
from gmail_kedro.corpora.corpus_protocols import PROTOCOLS
from gmail_kedro.models.inventory import KINDS, hub_ids_of
from gmail_kedro.preflight.requirements import read_requirements
from gmail_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).resolve().parents[2]
PROFILES = {name: read_requirements(ROOT / f"conf/{name}/requirements.yml") for name in ("base", "paper")}
PAPER = PROFILES["paper"]
LOADER = OmegaConfigLoader(str(ROOT / "conf"), env="paper", **CONFIG_LOADER_ARGS)
CATALOG = {name: entry for name, entry in LOADER["catalog"].items() if not name.startswith("_")}


@pytest.mark.parametrize("profile", PROFILES)
def test_every_table_of_the_paper_is_there(profile):
    assert list(PROFILES[profile].tables) == list(range(1, 18))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_model_is_known_and_so_is_what_may_take_its_place(profile):
    requirements = PROFILES[profile]
    used = {(kind, name) for table in requirements.tables.values() for kind, name in table.models()}
    assert {name for _, name in used} == set(requirements.weights)
    for kind, name in used:
        assert {name, *requirements.weights[name].instead} <= set(KINDS[kind].specs)


def test_what_has_the_same_figures_is_described_once():
    assert {name for table in PAPER.tables.values() for name in table.corpora} == set(PAPER.corpora)
    assert {name for table in PAPER.tables.values() for name in table.work} == set(PAPER.work)


@pytest.mark.parametrize("work", [work for profile in PROFILES.values() for work in profile.work.values()])
def test_every_cost_says_where_it_is_from(work):
    assert work.origin.startswith(("paper", "assumed: ", "measured: "))


@pytest.mark.parametrize("name", sorted(CATALOG))  # Kedro gives them in the order of the hash seed
def test_every_entry_of_the_papers_catalog_can_be_made(name):
    assert AbstractDataset.from_config(name, CATALOG[name])


@pytest.mark.parametrize("name", [name for name in PAPER.corpora if name in PROTOCOLS])
def test_files_of_a_corpus_are_where_its_catalog_entry_reads_them(name):
    entry = CATALOG[name]
    files = PAPER.corpora[name].files
    assert entry["protocol"] == name
    if "tars" in entry:
        assert list(files) == [entry["tars"]]
        return
    assert files[entry["annotations"]] == 1
    image_files = {pattern: count for pattern, count in files.items() if pattern != entry["annotations"]}
    assert image_files and all(pattern.startswith(entry["images"]) for pattern in image_files)
    expected = {split: count.images for split, count in PROTOCOLS[name].expected.items()}
    if name != "sharegpt4v_1k":  # its file names more images than the protocol reads
        assert sum(image_files.values()) == sum(expected.values())


@pytest.mark.parametrize("name", CLASS_SETS)
def test_files_of_a_classification_set_are_where_torchvision_reads_them(name):
    folder = f"{CATALOG[name]['root']}/{CLASS_SETS[name].folder}"
    assert sum(pattern.startswith(f"{folder}/") for pattern in PAPER.corpora[name].files) >= 1


@pytest.mark.parametrize("name", CLASS_SETS)
def test_what_is_trained_on_is_asked_for_too(name):
    entry, files = CATALOG[name], PAPER.corpora[name].files
    listings = {entry[key] for key in ("listing", "training_listing") if key in entry}
    assert listings <= set(files) and all(files[listing] == 1 for listing in listings)
    apart = {f"{entry['root']}/{part.folder}/" for part in CLASS_SETS[name].training.values() if part.folder}
    assert all(any(pattern.startswith(folder) for pattern in files) for folder in apart)
    assert CLASS_SETS[name].training or listings or "train_per_class" in entry
    assert CATALOG["class_sets"]["sets"][name] == entry


@pytest.mark.parametrize("name", ["scienceqa", "mmmu"])
def test_files_of_a_benchmark_are_where_its_catalog_entry_reads_them(name):
    folder = CATALOG[f"{name}_questions"]["filepath"]
    assert all(pattern.startswith(f"{folder}/") for pattern in PAPER.corpora[name].files)


@pytest.mark.parametrize(
    ("chosen", "corpus", "benchmark"),
    [
        ({}, "coco_karpathy", "coco_karpathy"),
        ({"corpus": "cc3m"}, "cc3m", "cc3m"),
        ({"corpus": "coco_train2014", "benchmark_corpus": "coco_val2017"}, "coco_train2014", "coco_val2017"),
    ],
)
def test_corpora_are_chosen_by_name(chosen, corpus, benchmark):
    catalog = OmegaConfigLoader(str(ROOT / "conf"), env="paper", runtime_params=chosen, **CONFIG_LOADER_ARGS)["catalog"]
    assert catalog["corpus"]["dataset"] == catalog[corpus]
    assert catalog["benchmark_corpus"]["dataset"] == catalog[benchmark]


def test_what_must_be_accepted_on_the_hub_is_marked():
    gated = {name for name, weights in PAPER.weights.items() if weights.gated}
    assert gated == {"flux_dev", "clip_llama_3_8b"}
    assert all(PAPER.weights[name].licence for name in gated)
    assert "Non-Commercial" in PAPER.weights["flux_dev"].licence


def test_hub_repositories_of_open_clips_tags_are_its_own():
    import open_clip

    for name, spec in KINDS["encoders"].specs.items():
        if spec.pretrained and "/" not in spec.pretrained and spec.architecture:
            hub = open_clip.get_pretrained_cfg(spec.architecture, spec.pretrained)["hf_hub"]
            assert hub_ids_of("encoders", name) == (hub.rstrip("/"),)


def write(tmp_path, **changes):
    stored = yaml.safe_load((ROOT / "conf/base/requirements.yml").read_text())
    (tmp_path / "requirements.yml").write_text(yaml.safe_dump(stored | changes))
    return tmp_path / "requirements.yml"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tables": {1: {"encoders": ["clip"]}}}, r"Table 1 .* needs \['clip'\], which weights"),
        ({"tables": {1: {"corpora": ["coco"]}}}, r"Table 1 .* needs \['coco'\], which corpora"),
        ({"tables": {1: {"tools": ["java"]}}}, r"needs \['java'\], which tools .* 'spice'"),
        ({"tables": {1: {"encoder": "x"}}}, r"Unknown keys \['encoder'\] of tables.1"),
        ({"weights": {"mini_clip": {}}}, r"Keys are missing from weights.mini_clip"),
        ({"weigths": {}}, r"Unknown keys \['weigths'\]"),
    ],
)
def test_a_wrong_file_is_refused_by_name(changes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        read_requirements(write(tmp_path, **changes))


def test_a_profile_without_requirements_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="says nowhere what it needs.*--env paper"):
        read_requirements(tmp_path / "requirements.yml")
