import io
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from gmail_kedro.datasets.blocks import BlocksDataset
from gmail_kedro.datasets.image_shards import ImageShardsDataset
from gmail_kedro.interfaces import Corpus
from gmail_kedro.params import RunParams
from gmail_kedro.pipelines.generation import create_pipeline
from gmail_kedro.pipelines.generation.nodes import prepare_generation, read_captions, write_manifest
from gmail_kedro.records.plan import plan_images
from gmail_kedro.zoo import generators

from ..records.painting import REVISION, Painter, generation_params, make_captions, read_stamp, stamp

TABLES = ("captions", "generation_plan", "generated_manifest")
RUN = RunParams(
    seed=0, device="cpu", precision="float32", encoder="e", encoder_path=None, image_batch_size=8, engine="local"
)


class OnePhotograph:
    """The same small photograph under every key."""

    def read(self, key: str) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), "gray").save(stream, "JPEG")
        return stream.getvalue()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Replaces the zoo's generators by a painter; returns the arguments of each build."""
    calls: list[dict[str, object]] = []

    def build_generator(name: str, path: str | None, **settings: object) -> Painter:
        calls.append({"name": name, "path": path, **settings})
        return Painter()

    monkeypatch.setattr(generators, "build_generator", build_generator)
    monkeypatch.setattr(generators, "generator_revision", lambda name, path: REVISION)
    return calls


def run_pipeline(folder: Path, **changes: object) -> dict[str, pd.DataFrame]:
    corpus = Corpus("tiny", make_captions(), images=OnePhotograph(), labels={})
    catalog = DataCatalog(
        {
            "corpus": MemoryDataset(corpus, copy_mode="assign"),
            "params:generation": MemoryDataset(generation_params(**changes)),
            "params:run": MemoryDataset(RUN),
            "generated_images": ImageShardsDataset(str(folder)),
            **{name: BlocksDataset(filepath=str(folder.with_suffix(f".{name}"))) for name in TABLES},
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)
    return {name: catalog.load(name) for name in (*TABLES, "generated_images")}


def test_from_a_corpus_to_pictures_and_their_manifest(tmp_path: Path, built: list[dict[str, object]]) -> None:
    made = run_pipeline(tmp_path)
    manifest, images = made["generated_manifest"], made["generated_images"]
    assert made["captions"].equals(make_captions())
    assert sorted(manifest["caption_id"]) == make_captions()["caption_id"].tolist()[:10]
    for row in manifest.itertuples():
        assert read_stamp(images.read(row.key)) == stamp(row.prompt, row.seed)
    assert len(built) == 1
    assert {name: built[0][name] for name in ("name", "steps", "guidance", "resolution", "precision")} == {
        "name": "painter",
        "steps": 1,
        "guidance": 3.0,
        "resolution": 32,
        "precision": "float32",
    }


def test_a_second_run_builds_no_generator(tmp_path: Path, built: list[dict[str, object]]) -> None:
    first = run_pipeline(tmp_path)
    second = run_pipeline(tmp_path, guidance=3, batch_size=7)
    assert len(built) == 1
    assert second["generated_manifest"].equals(first["generated_manifest"])


def test_planning_and_preparing_build_nothing(built: list[dict[str, object]]) -> None:
    params = generation_params()
    work = prepare_generation(plan_images(make_captions(), params=params), params, RUN)
    assert built == []
    assert work.settings["revision"] == REVISION


def test_the_manifest_refuses_settings_the_set_was_not_made_with(
    tmp_path: Path, built: list[dict[str, object]]
) -> None:
    made = run_pipeline(tmp_path)
    with pytest.raises(ValueError, match="made with steps=1; generation.steps is 50"):
        write_manifest(made["generation_plan"], made["generated_images"], generation_params(steps=50))


def test_a_corpus_without_usable_captions_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="captions table is empty"):
        read_captions(Corpus("tiny", make_captions().iloc[:0], images=None, labels={}))
