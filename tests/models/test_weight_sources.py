"""Files of weights that cannot be loaded are known by their heads and ends."""

import json

import torch
from safetensors.torch import save_file

from gmail_kedro.models.weight_sources import MODEL_FILES, find_file_flaw, find_folder_flaw, read_shapes


def test_shapes_are_read_from_the_head(tmp_path):
    save_file({"a": torch.ones(2, 3), "b": torch.ones(())}, tmp_path / "x.safetensors")
    assert read_shapes(tmp_path / "x.safetensors") == {"a": [2, 3], "b": []}


def test_a_file_is_whole_absent_empty_or_cut_short(tmp_path):
    save_file({"a": torch.ones(2, 3)}, tmp_path / "x.safetensors")
    torch.save({"a": torch.ones(2, 3)}, tmp_path / "x.pt")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("x.safetensors", "x.pt"):
        path = tmp_path / name
        assert find_file_flaw(path) == ""
        path.write_bytes(path.read_bytes()[:-1])
        assert find_file_flaw(path).startswith(f"{name} is damaged or cut short")
        path.write_bytes(b"")
        assert find_file_flaw(path) == f"{name} is empty"
    assert find_file_flaw(tmp_path / "old.pth") == ""
    assert find_file_flaw(tmp_path / "y.pt") == "y.pt is not there"


def test_the_first_name_that_is_there_decides(tmp_path):
    assert find_folder_flaw(tmp_path / "nowhere", MODEL_FILES) == "not there"
    assert find_folder_flaw(tmp_path, MODEL_FILES) == "no model.safetensors or pytorch_model.bin"
    torch.save({}, tmp_path / "pytorch_model.bin")
    assert find_folder_flaw(tmp_path, MODEL_FILES) == ""
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "1", "b": "2"}}))
    assert find_folder_flaw(tmp_path, MODEL_FILES) == "2 of 2 shards are missing"
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    assert find_folder_flaw(tmp_path, MODEL_FILES).startswith("model.safetensors.index.json is damaged")
