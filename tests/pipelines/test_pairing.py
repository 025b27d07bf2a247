import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from gmail_kedro.params import PairingParams
from gmail_kedro.pipelines.pairing import create_pipeline
from gmail_kedro.pipelines.pairing.nodes import pair
from gmail_kedro.records.plan import plan_images

from ..records.painting import generation_params, make_captions

HALF = PairingParams(val_fraction=0.5, seed=0)


def test_pairs_come_from_captions_and_manifest() -> None:
    captions = make_captions(6)
    manifest = plan_images(captions, params=generation_params()).assign(status="made")
    catalog = DataCatalog(
        {
            "captions": MemoryDataset(captions),
            "generated_manifest": MemoryDataset(manifest),
            "params:pairing": MemoryDataset(HALF),
            "pairs": MemoryDataset(),
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)
    pairs = catalog.load("pairs")
    assert pairs["generated_key"].tolist() == manifest["key"].tolist()
    assert pairs["real_key"].tolist() == captions["image_id"].tolist()[:12]
    assert set(pairs["split"]) == {"train", "val"}


def test_a_photograph_of_the_test_split_is_refused() -> None:
    captions = make_captions(6)
    manifest = plan_images(captions, params=generation_params()).assign(status="made")
    captions.loc[captions["split"] == "test", "image_id"] = "img_3.jpg"
    with pytest.raises(ValueError, match="keeps out of training.*'cap_3_0'"):
        pair(captions, manifest, HALF)
