"""Every file of a finished set, and its pairs: changed, cut or emptied, it is found and never used without a word."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.runner import SequentialRunner
from kedro_datasets.matplotlib import MatplotlibDataset
from kedro_datasets.text import TextDataset

from gmail_kedro.datasets.atomic_files import CSVDataset, JSONDataset
from gmail_kedro.datasets.folder import FolderDataset
from gmail_kedro.datasets.image_shards import ImageShardsDataset
from gmail_kedro.datasets.table_blocks import BlocksDataset
from gmail_kedro.generated_sets.verify import Problem, verify_set
from gmail_kedro.interfaces import Corpus
from gmail_kedro.params.generation import PairingParams
from gmail_kedro.pipelines import generation, pairing
from gmail_kedro.pipelines.generation.card import check_card
from gmail_kedro.whole_files import SUMS

from ..generated_sets.painting import Spoiler, generation_params, quality_params, spoil_captions
from .test_generation import RUN, GreyImages, use_painter

TABLES = {"captions": "captions", "generation_plan": "plan", "generated_manifest@frame": "manifest"}


def flip(whole: bytes, position: int) -> bytes:
    return whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "changed": lambda whole: flip(whole, len(whole) // 2),
    "cut": lambda whole: whole[: len(whole) // 2],
    "emptied": lambda whole: b"",
}


def catalog_of(home: Path) -> DataCatalog:
    folder = home / "tiny"
    corpus = Corpus("tiny", spoil_captions(), images=GreyImages(), labels={})
    parameters = {
        "generation": generation_params(),
        "quality": quality_params(),
        "run": RUN,
        "pairing": PairingParams(val_fraction=0.5, seed=0),
    }
    tables = {
        name: BlocksDataset(filepath=str(folder / f"{file}.parquet"), made_by="generation")
        for name, file in TABLES.items()
    }
    manifest = str(folder / "manifest.parquet")
    return DataCatalog(
        {
            **{name: MemoryDataset(corpus, copy_mode="assign") for name in ("corpus", "benchmark_corpus")},
            **{f"params:{name}": MemoryDataset(values) for name, values in parameters.items()},
            **tables,
            "generated_manifest@blocks": BlocksDataset(filepath=manifest, load_as="blocks", made_by="generation"),
            "shard_folder": FolderDataset(str(folder / "shards")),
            "generated_images": ImageShardsDataset(str(folder / "shards")),
            "unreadable_photographs": CSVDataset(
                filepath=str(folder / "unreadable_photographs.csv"), save_args={"index": False}
            ),
            "set_card": JSONDataset(filepath=str(folder / "card.json"), save_args={"indent": 1}),
            "set_card_page": TextDataset(filepath=str(folder / "README.md")),
            "set_card_figure": MatplotlibDataset(filepath=str(folder / "samples.png")),
            "pairs": BlocksDataset(filepath=str(home / "pairs" / "tiny" / "pairs.parquet"), made_by="pairing"),
        }
    )


def problems_of(home: Path) -> list[Problem]:
    result = verify_set(home / "tiny", home / "pairs" / "tiny" / "pairs.parquet")
    return [*result.problems, *check_card(home / "tiny")]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        use_painter(patch, Spoiler)
        catalog = catalog_of(home)
        SequentialRunner().run(generation.create_pipeline(), catalog)
        SequentialRunner().run(pairing.create_pipeline(), catalog)
    return home


def files_of(home: Path) -> list[Path]:
    return sorted(path.relative_to(home) for path in home.rglob("*") if path.is_file())


def test_the_set_and_its_pairs_are_whole_and_have_a_quarantine(made: Path) -> None:
    assert problems_of(made) == []
    names = [path.name for path in files_of(made)]
    assert {*names} >= {"card.json", "README.md", "samples.png", "unreadable_photographs.csv", "pairs.parquet"}
    assert any("quarantine" in path.parts for path in files_of(made))


@pytest.mark.reliability(28)
@pytest.mark.parametrize("damage", DAMAGES)
def test_verify_names_every_damaged_file_and_what_to_do(made: Path, tmp_path: Path, damage: str) -> None:
    for name in files_of(made):
        home = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(made, home)
        path = home / name
        path.write_bytes(DAMAGES[damage](path.read_bytes()))
        found = problems_of(home)
        # A line that is wrong speaks of the file it names; the pairs' sums are held against nothing but the pairs.
        assert any(name.name in (problem.place, SUMS) or problem.place.endswith(name.name) for problem in found), name
        assert found and all(
            "kedro run" in problem.repair or "gmail-kedro set card" in problem.repair for problem in found
        )


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("entry", [*TABLES, "generated_manifest@blocks", "pairs"])
def test_no_damaged_table_is_read(made: Path, tmp_path: Path, damage: str, entry: str) -> None:
    shutil.copytree(made, tmp_path / "set")
    dataset = catalog_of(tmp_path / "set")[entry]
    path = Path(dataset._filepath)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    pipeline = "pairing" if entry == "pairs" else "generation"
    with pytest.raises(DatasetError, match=rf"{path.name} is damaged: .*kedro run --pipeline={pipeline} .*set=tiny"):
        dataset.load()


@pytest.mark.parametrize("damage", DAMAGES)
def test_no_damaged_shard_or_description_is_read(made: Path, tmp_path: Path, damage: str) -> None:
    for name in files_of(made / "tiny" / "shards"):
        home = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(made, home)
        images = catalog_of(home)["generated_images"].load()
        places = [images.locate(key) for key in list(images.keys())]
        place = next((place for place in places if name.name == f"{place.shard_id}.tar"), None)
        path, position = home / "tiny" / "shards" / name, place.offset + place.size // 2 if place else 0
        whole = path.read_bytes()
        if damage == "changed" and place is not None:
            path.write_bytes(flip(whole, position))
        else:
            path.write_bytes(DAMAGES[damage](whole))
        if damage == "changed" and "quarantine" in name.parts:
            continue  # nothing reads a quarantined image but verify
        with pytest.raises((DatasetError, ValueError), match=r"kedro run --pipeline=generation .*set=tiny"):
            read_all(home)


def read_all(home: Path) -> None:
    images = catalog_of(home)["generated_images"].load()
    for key in list(images.keys()):
        images.read(key)


def test_what_is_not_there_is_a_sentence_with_the_set_and_the_command(tmp_path: Path) -> None:
    for entry, pipeline in (("pairs", "pairing"), ("captions", "generation"), ("generated_images", "generation")):
        with pytest.raises(DatasetError, match=rf"kedro run --pipeline={pipeline} --params=\"set=tiny,"):
            catalog_of(tmp_path)[entry].load()
