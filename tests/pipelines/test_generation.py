import io
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from gmail_kedro.datasets.folder import FolderDataset
from gmail_kedro.datasets.image_shards import ImageShardsDataset
from gmail_kedro.datasets.table_blocks import BlocksDataset
from gmail_kedro.interfaces import Corpus, ImageSource
from gmail_kedro.models.generators import known_generators as generators
from gmail_kedro.models.generators.sampling import Sampling
from gmail_kedro.params.generation import GenerationParams, PairingParams
from gmail_kedro.params.run import RunParams
from gmail_kedro.pipelines.generation import create_pipeline
from gmail_kedro.pipelines.generation.card import write_set_card
from gmail_kedro.pipelines.generation.nodes import read_captions, settings_of, write_manifest

from ..generated_sets.painting import (
    REASONS,
    REVISION,
    SPOILT,
    Painter,
    Spoiler,
    generation_params,
    make_captions,
    quality_params,
    read_stamp,
    spoil_captions,
    stamp,
)

TABLES = ("captions", "unreadable_photographs", "generation_plan", "generated_manifest")
ENTRIES = {"generated_manifest": "generated_manifest@frame"}
RUN = RunParams(
    seed=0, device="cpu", precision="float32", encoder="e", encoder_path=None, image_batch_size=8, engine="local"
)


class GreyImages:
    """A small real image under every key, each of its own bytes."""

    def read(self, key: str) -> bytes:
        stream = io.BytesIO()
        Image.new("RGB", (8, 8), "gray").save(stream, "JPEG", comment=key.encode())
        return stream.getvalue()


def use_painter(patch: pytest.MonkeyPatch, build: Callable[[], Painter]) -> list[dict[str, object]]:
    """Replaces the known generators by a painter; returns the arguments of each build."""
    calls: list[dict[str, object]] = []

    def build_generator(name: str, path: str | None, sampling: Sampling, *, device: torch.device) -> Painter:
        calls.append({"name": name, "path": path, **asdict(sampling)})
        return build()

    patch.setattr(generators, "build_generator", build_generator)
    patch.setattr(generators, "check_sampling", lambda name, sampling: None)
    patch.setattr(generators, "generator_revision", lambda name, path: REVISION)
    patch.setattr(generators, "generator_files", lambda name, path: {"paint/brush.safetensors": REVISION})
    patch.setitem(generators.GENERATORS, "painter", replace(next(iter(generators.GENERATORS.values())), licence="CC0"))
    return calls


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    return use_painter(monkeypatch, Painter)


def run_pipeline(
    folder: Path,
    params: GenerationParams | None = None,
    *,
    spoilt: Mapping[int, str] | None = None,
    quality: Mapping[str, object] | None = None,
    images: ImageSource | None = None,
    **changes: object,
) -> dict[str, pd.DataFrame]:
    captions = make_captions() if spoilt is None else spoil_captions(spoilt)
    corpus = Corpus("tiny", captions, images=images or GreyImages(), labels={})
    catalog = DataCatalog(
        {
            "corpus": MemoryDataset(corpus, copy_mode="assign"),
            "benchmark_corpus": MemoryDataset(corpus, copy_mode="assign"),
            "params:generation": MemoryDataset(params or generation_params(**changes)),
            "params:run": MemoryDataset(RUN),
            "params:pairing": MemoryDataset(PairingParams(val_fraction=0.5, seed=0)),
            "params:quality": MemoryDataset(quality_params(**(quality or {}))),
            "shard_folder": FolderDataset(str(folder)),
            "generated_images": ImageShardsDataset(str(folder)),
            **{ENTRIES.get(name, name): BlocksDataset(filepath=str(folder.with_suffix(f".{name}"))) for name in TABLES},
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)
    return {name: catalog.load(ENTRIES.get(name, name)) for name in (*TABLES, "generated_images")}


def test_from_a_corpus_to_images_and_their_manifest(tmp_path: Path, built: list[dict[str, object]]) -> None:
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


def test_the_run_writes_the_sets_card_and_its_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_painter(monkeypatch, Spoiler)
    made = run_pipeline(tmp_path / "painted" / "shards", spoilt=SPOILT)
    parts = (Corpus("tiny", spoil_captions(SPOILT), images=GreyImages(), labels={}), made["generated_manifest"])
    card, page, sheet = write_set_card(*parts, made["generated_images"], generation_params())
    assert card["name"] == "painted" and card["generator"] == {
        "name": "painter",
        "licence": "CC0",
        "revision": REVISION,
        "weights": {"paint/brush.safetensors": REVISION},
    }
    assert card["hashes"]["set"] == made["generated_images"].fingerprint
    refused = made["generated_manifest"].query("status == 'quarantined'")
    assert sum(card["statistics"]["quarantine"].values()) == len(refused) > 0
    assert all(f"| {reason} |" in page for reason in refused["reason"])
    shown = [axis for axis in sheet.axes if axis.images]
    assert len(shown) == card["statistics"]["counts"]["made"] and len(shown[0].images) == 2
    monkeypatch.setattr(generators, "generator_revision", lambda name, path: "another")
    with pytest.raises(ValueError, match="made by weights of revision paint-1"):
        write_set_card(*parts, made["generated_images"], generation_params())


def test_a_second_run_builds_no_generator(tmp_path: Path, built: list[dict[str, object]]) -> None:
    first = run_pipeline(tmp_path)
    second = run_pipeline(tmp_path, guidance=3, batch_size=7)
    assert len(built) == 1
    assert second["generated_manifest"].equals(first["generated_manifest"])


def test_settings_are_told_without_building_a_model(built: list[dict[str, object]]) -> None:
    assert settings_of(generation_params())["revision"] == REVISION
    assert built == []


def test_the_manifest_refuses_settings_the_set_was_not_made_with(
    tmp_path: Path, built: list[dict[str, object]]
) -> None:
    made = run_pipeline(tmp_path)
    with pytest.raises(ValueError, match="made with steps=1; generation.steps is 50"):
        write_manifest(made["generation_plan"], made["generated_images"], generation_params(steps=50))


def test_a_corpus_without_usable_captions_is_refused_at_once() -> None:
    empty = Corpus("tiny", make_captions().iloc[:0], images=None, labels={})
    with pytest.raises(ValueError, match="captions table is empty"):
        read_captions(empty, empty, quality_params())


@pytest.mark.reliability(6)
def test_refused_images_are_in_the_manifest_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Test 6 of the fault tests."""
    use_painter(monkeypatch, Spoiler)
    manifest = run_pipeline(tmp_path, spoilt=SPOILT)["generated_manifest"]
    assert manifest.loc[manifest["status"] == "quarantined", "reason"].tolist() == list(REASONS.values())
    with pytest.raises(Exception, match=r"5 of the 12 images judged so far .*quality.max_quarantined allows 40.0%"):
        run_pipeline(tmp_path, spoilt=SPOILT, quality={"max_quarantined": 0.4})


class RealImages:
    """Real images of which some are damaged or absent."""

    def __init__(self, cut: Collection[str], gone: Collection[str]) -> None:
        self.cut, self.gone = cut, gone

    def read(self, key: str) -> bytes:
        if key in self.gone:
            raise FileNotFoundError(f"There is no picture {key!r} in /photographs.")
        stream = io.BytesIO()
        Image.effect_noise((64, 64), 60).save(stream, "JPEG")
        jpeg = stream.getvalue()
        return jpeg[:-200] if key in self.cut else jpeg


@pytest.mark.reliability(12)
@pytest.mark.reliability(11)
def test_unreadable_real_images_are_listed_and_neither_planned_nor_paired(
    tmp_path: Path, built: list[dict[str, object]]
) -> None:
    """Tests 11 and 12 of the fault tests."""
    images = RealImages(cut=["img_1.jpg"], gone=["img_3.jpg"])
    made = run_pipeline(tmp_path, images=images, quality={"max_unreadable": 0.5})
    bad = made["unreadable_photographs"]
    assert bad[["image_id", "caption_count"]].values.tolist() == [["img_1.jpg", 2], ["img_3.jpg", 2]]
    assert "cut off or corrupt" in bad["reason"][0]
    assert "no picture 'img_3.jpg' in /photographs" in bad["reason"][1]
    for name in ("captions", "generation_plan", "generated_manifest"):
        assert not made[name]["image_id"].isin(bad["image_id"]).any()
    assert len(made["generation_plan"]) == 6


def test_a_corpus_without_unreadable_real_images_has_an_empty_table(
    tmp_path: Path, built: list[dict[str, object]]
) -> None:
    bad = run_pipeline(tmp_path)["unreadable_photographs"]
    assert bad.columns.tolist() == ["image_id", "caption_count", "reason"]
    assert bad.empty


@pytest.mark.reliability(12)
def test_too_many_unreadable_real_images_fail_the_run_and_are_named() -> None:
    """Test 12 of the fault tests."""
    corpus = Corpus("tiny", make_captions(), RealImages(cut=["img_1.jpg"], gone=["img_3.jpg"]), labels={})
    with pytest.raises(
        ValueError, match=r"2 of the 5 training .* \(40.00%\); quality.max_unreadable .* 30.00%"
    ) as caught:
        read_captions(corpus, corpus, quality_params(max_unreadable=0.3))
    assert "'img_1.jpg'" in str(caught.value)
    assert "'img_3.jpg'" in str(caught.value)


@pytest.mark.parametrize("image_id", ["img_v.jpg", "img_t.jpg"])
def test_an_unreadable_benchmark_real_image_always_fails_the_run(image_id: str) -> None:
    corpus = Corpus("tiny", make_captions(), RealImages(cut=[image_id], gone=[]), labels={})
    with pytest.raises(ValueError, match=f"1 of the 2 images .*\n- The image '{image_id}' is cut off"):
        read_captions(corpus, corpus, quality_params(max_unreadable=1.0))


def test_copies_among_what_is_measured_are_counted_and_named(caplog: pytest.LogCaptureFixture) -> None:
    noise = RealImages(cut=[], gone=[])
    measured = noise.read("img_v.jpg")

    class Copied:
        def read(self, key: str) -> bytes:
            return measured if key in ("img_v.jpg", "img_t.jpg") else noise.read(key)

    corpus = Corpus("tiny", make_captions(), Copied(), labels={})
    captions, _ = read_captions(corpus, corpus, quality_params())
    assert {"img_v.jpg", "img_t.jpg"} <= set(captions["image_id"])
    assert "1 val and test real images of the corpus 'tiny' have the very bytes of others" in caplog.text
    assert "(the first: 'img_t.jpg' is 'img_v.jpg')" in caplog.text


def test_an_interrupted_manifest_or_plan_is_written_again(tmp_path: Path, built: list[dict[str, object]]) -> None:
    made = run_pipeline(tmp_path)
    for name in ("generation_plan", "generated_manifest"):
        table = tmp_path.with_suffix(f".{name}")
        table.write_bytes(table.read_bytes()[:100])
    again = run_pipeline(tmp_path)
    assert again["generated_manifest"].equals(made["generated_manifest"])
    assert len(built) == 1
