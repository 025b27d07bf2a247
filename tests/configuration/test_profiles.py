"""One home for each fact of the configuration: what a profile resolves to hangs on nothing but its files."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROFILES = sorted({path.parent.name for path in ROOT.glob("conf/*/globals.yml")})
FOLDERS = ("data/06_models/", "data/07_model_output/", "data/08_reporting/")
NOT_OF_A_RUN = ("pretraining", "tables", "report", "summary.md", "repro")
RESOLVE = """
import json, sys
from kedro.config import OmegaConfigLoader
found = {}
for profile in sys.argv[2:]:
    catalog = OmegaConfigLoader(sys.argv[1], env=profile, base_env="base")["catalog"]
    found[profile] = {name: entry["filepath"] for name, entry in catalog.items() if "filepath" in entry}
print(json.dumps(found))
"""


def resolve(hash_seed: int) -> dict[str, dict[str, str]]:
    """Where every profile's results lie when the command says nothing, in a process of its own."""
    command = [sys.executable, "-c", RESOLVE, str(ROOT / "conf"), *PROFILES]
    finished = subprocess.run(command, env={"PYTHONHASHSEED": str(hash_seed)}, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    return json.loads(finished.stdout)


def folder_of_a_run(path: str) -> str | None:
    room = next((room for room in FOLDERS if path.startswith(room)), None)
    folder = None if room is None else path.removeprefix(room).split("/")[0]
    return None if folder is None or folder.startswith(NOT_OF_A_RUN) else folder


@pytest.mark.reliability(34)
@pytest.mark.parametrize("hash_seed", range(4))
def test_results_lie_in_the_profiles_own_folders_whatever_the_hash_seed(hash_seed: int):
    assert {"base", "own_corpus", "paper"} <= set(PROFILES)
    base = yaml.safe_load((ROOT / "conf/base/globals.yml").read_text())
    wrong, seen = [], set()
    for profile, paths in resolve(hash_seed).items():
        names = base | yaml.safe_load((ROOT / f"conf/{profile}/globals.yml").read_text())
        for entry, path in paths.items():
            owner = "baseline" if entry.startswith("baseline_") else "run_id"
            if (folder := folder_of_a_run(path)) is not None:
                seen.add((profile, owner))
                wrong += [] if folder == names.get(owner) else [(profile, entry, path)]
            if path.startswith("data/03_primary/") or entry == "generated_images":
                wrong += [] if path.split("/")[2] == names["set"] else [(profile, entry, path)]
    assert wrong == []
    assert seen == {(profile, owner) for profile in PROFILES for owner in ("baseline", "run_id")}


@pytest.mark.parametrize("profile", PROFILES)
def test_no_name_stands_in_two_catalog_files_of_a_profile(profile: str):
    files = {path for folder in {"base", profile} for path in ROOT.glob(f"conf/{folder}/catalog*.yml")}
    names = Counter(key for path in files for key in yaml.safe_load(path.read_text()) if key.startswith("_"))
    assert names["_run"] == 1 and {name for name, count in names.items() if count > 1} == set()
