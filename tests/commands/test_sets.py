"""The commands on finished sets, as a person types them, on a set made by the real mini generator."""

import json
import logging
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

from gmail_kedro.commands import main
from gmail_kedro.commands.project import Project
from gmail_kedro.generated_sets.block_tables import write_parquet
from gmail_kedro.generated_sets.manifest import build_manifest
from gmail_kedro.generated_sets.plan import plan_images
from gmail_kedro.generated_sets.set_folder import CAPTIONS_FILE, MANIFEST_FILE, PLAN_FILE, SHARD_FOLDER
from gmail_kedro.params.generation import GenerationParams
from gmail_kedro.params.quality import QualityParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.generation.nodes import generate_images

from ..generated_sets.painting import make_captions

pytestmark = pytest.mark.slow
SETS = "data/02_intermediate"
Gmail = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """A project with a set of eight images by the mini Stable Diffusion."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(repository / "conf", root / "conf")
    shutil.copy(repository / "pyproject.toml", root)
    group = partial(Project(root, None, {}).group)
    changes = {"image_count": 4, "captions_per_image": 2, "steps": 2, "shard_size": 5}
    params, captions = GenerationParams(**group("generation") | changes), make_captions()
    run = RunParams(**group("run") | {"precision": "float32"})
    plan = plan_images(captions, params=params)
    folder = root / SETS / "tiny"
    quality = QualityParams(**group("quality") | {"max_quarantined": 1.0})
    images = generate_images(plan, folder / SHARD_FOLDER, params, run, quality)
    write_parquet(folder / CAPTIONS_FILE, captions)
    write_parquet(folder / PLAN_FILE, plan)
    write_parquet(folder / MANIFEST_FILE, build_manifest(plan, images))
    return root


@pytest.fixture
def gmail(made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, caplog) -> Gmail:
    """Runs `gmail-kedro set …` in the project; returns the exit code and what was said."""
    monkeypatch.chdir(made)

    def run(*words: str) -> tuple[int, str]:
        with caplog.at_level(logging.WARNING):
            code = main(["set", *words])
        return code, capsys.readouterr().out + caplog.text

    return run


def test_a_whole_set_verifies_and_a_damaged_one_does_not(made: Path, gmail: Gmail, tmp_path: Path):
    code, said = gmail("verify", "tiny")
    assert code == 0 and "is whole: 8 images in 2 shards" in said
    shutil.copytree(made / SETS / "tiny", tmp_path / "damaged")
    (tmp_path / "damaged/shards/100000.tar").unlink()
    code, said = gmail("verify", str(tmp_path / "damaged"))
    assert code == 1 and "shards/100000.tar: the shard is missing, and 4 images" in said
    assert "kedro run --pipeline=generation" in said


def test_a_damaged_card_is_found_and_written_again_as_advised(made: Path, gmail: Gmail):
    assert gmail("card", "tiny")[0] == 0
    card = made / SETS / "tiny/card.json"
    whole = card.read_bytes()
    card.write_bytes(whole.replace(b"CreativeML", b"CreatiueML").replace(b"Apache", b"Apachf").replace(b"MIT", b"MIU"))
    assert card.read_bytes() != whole
    code, said = gmail("verify", "tiny")
    assert code == 1 and "card.json" in said and "gmail-kedro set card tiny" in said
    assert gmail("card", "tiny")[0] == 0
    assert card.read_bytes() == whole and gmail("verify", "tiny")[0] == 0


def test_an_image_made_again_from_its_row_has_the_same_bytes(gmail: Gmail):
    code, said = gmail("regenerate", "tiny", "cap_2_1/0", "--params", "run.device=cpu")
    assert code == 0 and "cap_2_1/0 of tiny, made again: identical" in said


def test_other_weights_are_named_file_by_file(made: Path, gmail: Gmail, repository: Path, tmp_path: Path):
    assert gmail("card", "tiny")[0] == 0
    weights = tmp_path / "weights"
    shutil.copytree(repository / "src/gmail_kedro/mini/weights/stable_diffusion", weights)
    index = weights / "scheduler" / "scheduler_config.json"
    index.write_text(index.read_text() + "\n")
    code, said = gmail("regenerate", "tiny", "cap_0_0/0", "--params", f"generation.generator_path={weights}")
    assert code == 0 and "revision was" in said
    assert [line for line in said.splitlines() if line.startswith("- ")][0].startswith(
        "- scheduler/scheduler_config.json"
    )


def test_an_unknown_image_is_refused(gmail: Gmail):
    code, said = gmail("regenerate", "tiny", "nothing/0")
    assert code == 1 and "no image 'nothing/0'" in said


def test_a_subset_is_a_whole_set_with_a_card_of_its_own(made: Path, gmail: Gmail):
    ids = made / "ids.txt"
    ids.write_text("cap_0_1\ncap_3_0\n")
    code, said = gmail("subset", "tiny", "smaller", "--captions", str(ids))
    assert code == 0 and "The set smaller has 2 of the 8 images of tiny" in said
    assert gmail("verify", "smaller")[0] == 0
    card = json.loads((made / SETS / "smaller/card.json").read_text())
    assert card["name"] == "smaller" and card["statistics"]["counts"]["made"] == 2
    assert card["generator"]["licence"] and "unet/diffusion_pytorch_model.safetensors" in card["generator"]["weights"]
    code, said = gmail("subset", "tiny", "smaller", "--photographs", "1")
    assert code == 1 and "is there already" in said


def test_a_subset_without_a_limit_is_refused(gmail: Gmail):
    code, said = gmail("subset", "tiny", "all")
    assert code == 1 and "--photographs N, --captions FILE or --samples N" in said


def test_statistics_are_a_table_or_json(gmail: Gmail):
    code, said = gmail("stats", "tiny")
    assert code == 0 and "| pictures that may be paired | 8 |" in said
    code, said = gmail("stats", "tiny", "--json")
    assert json.loads(said)["counts"]["made"] == 8


def test_without_its_corpus_a_sheet_shows_the_images_and_says_so(made: Path, gmail: Gmail):
    code, said = gmail("sheet", "tiny", "--count", "3")
    assert code == 0 and "goes without real images" in said
    with Image.open(made / "data/08_reporting/sets/tiny.png") as drawn:
        assert drawn.width > 500


def test_a_malformed_parameter_is_refused(gmail: Gmail):
    code, said = gmail("card", "tiny", "--params", "run.device")
    assert code == 1 and "--params must be name=value" in said
