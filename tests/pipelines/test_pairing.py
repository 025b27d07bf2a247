from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from gmail_kedro.datasets.table_blocks import BlocksDataset
from gmail_kedro.generated_sets.plan import plan_images
from gmail_kedro.params.generation import PairingParams
from gmail_kedro.pipelines.pairing import create_pipeline
from gmail_kedro.pipelines.pairing.nodes import pair

from ..generated_sets.painting import generation_params, make_captions

HALF = PairingParams(val_fraction=0.5, seed=0)


def test_pairs_come_from_captions_and_manifest(tmp_path: Path) -> None:
    captions = make_captions(6)
    manifest = plan_images(captions, params=generation_params()).assign(status="made", reason="")
    catalog = DataCatalog(
        {
            "captions": MemoryDataset(captions),
            "generated_manifest@blocks": MemoryDataset(manifest),
            "params:pairing": MemoryDataset(HALF),
            "params:generation": MemoryDataset(generation_params()),
            "pairs": BlocksDataset(filepath=str(tmp_path / "pairs.parquet")),
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)
    pairs = catalog.load("pairs")
    assert pairs["generated_key"].tolist() == manifest["key"].tolist()
    assert pairs["real_key"].tolist() == [f"img_{n}.jpg" for n in range(6)] * 2
    assert set(pairs["split"]) == {"train", "val"}


def test_a_real_image_of_the_test_split_is_refused() -> None:
    captions = make_captions(6)
    manifest = plan_images(captions, params=generation_params()).assign(status="made", reason="")
    captions.loc[captions["split"] == "test", "image_id"] = "img_3.jpg"
    with pytest.raises(ValueError, match="keeps out of training.*'cap_3_0'"):
        pair(captions, manifest, HALF, generation_params()).read_all()
