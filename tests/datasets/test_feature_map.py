"""Feature maps on disk."""

import pytest
import torch
from kedro.io import DatasetError

from gmail_kedro.datasets.feature_map import FeatureMapDataset
from gmail_kedro.method.realign import FeatureMap

MEANS = {"source_mean": torch.arange(3.0).double(), "target_mean": torch.ones(3).double()}


@pytest.mark.parametrize(("kind", "tensors"), [("none", {}), ("mean_shift", MEANS)])
def test_a_map_comes_back_as_it_was(kind, tensors, tmp_path):
    dataset = FeatureMapDataset(filepath=str(tmp_path / "made" / "map.safetensors"))
    assert not dataset.exists()
    dataset.save(FeatureMap(kind, tensors))
    found = dataset.load()
    assert found.kind == kind and found.statistics.keys() == tensors.keys()
    assert all(torch.equal(found.statistics[name], value) for name, value in tensors.items())


@pytest.mark.reliability(16)
def test_one_changed_byte_and_a_lost_file_are_refused(tmp_path):
    path = tmp_path / "map.safetensors"
    dataset = FeatureMapDataset(filepath=str(path))
    with pytest.raises(DatasetError, match=r"no feature map at .*map\.safetensors.*kedro run --pipeline=align"):
        dataset.load()
    dataset.save(FeatureMap("mean_shift", MEANS))
    whole = path.read_bytes()
    for place in (whole.index(b"mean_shift"), len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DatasetError, match=r"map\.safetensors is damaged.*Align again: kedro run --pipeline=align"):
            dataset.load()
