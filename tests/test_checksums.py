import os
import subprocess
import sys

import pytest
import torch

from gmail_kedro.checksums import DamagedFileError, hash_tensors, read_tensors, write_tensors

TENSORS = {
    "weights": torch.arange(6.0).view(2, 3),
    "half": torch.ones(2, dtype=torch.bfloat16),
    "number": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}
FACTS = {"kind": "test", "rows": [{"loss": 0.1 + 0.2}], "step": 3, "nothing": None}
REMEDY = "Delete the file."


def test_tensors_and_facts_come_back_as_they_were(tmp_path):
    path = tmp_path / "made" / "tensors.safetensors"
    write_tensors(path, TENSORS, FACTS)
    tensors, facts = read_tensors(path, remedy=REMEDY)
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # no temporary file is left


@pytest.mark.reliability(16)
def test_any_changed_byte_is_found(tmp_path):
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, {"weights": torch.arange(3.0)}, {"kind": "test"})
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DamagedFileError, match=r"tensors\.safetensors .*Delete the file\."):
            read_tensors(path, remedy=REMEDY)


def test_a_cut_file_and_one_without_a_checksum_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "tensors.safetensors"
    write_tensors(path, TENSORS, FACTS)
    whole = path.read_bytes()
    for length in (0, 4, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError, match="cannot be read"):
            read_tensors(path, remedy=REMEDY)
    save_file(TENSORS, path, metadata={"kind": "test"})
    with pytest.raises(DamagedFileError, match=r"cannot be read .*Delete the file\."):
        read_tensors(path, remedy=REMEDY)
    path.unlink()
    with pytest.raises(DamagedFileError, match=r"tensors\.safetensors cannot be read"):
        read_tensors(path, remedy=REMEDY)


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "tensors.safetensors"
    write_tensors(path, TENSORS, FACTS)

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(path, {"weights": torch.zeros(1)}, {})
    assert read_tensors(path, remedy=REMEDY)[1] == FACTS
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.reliability(34)
def test_equal_content_gives_equal_bytes_in_every_process(tmp_path):
    script = (
        "import sys, torch; from pathlib import Path; from gmail_kedro.checksums import write_tensors;"
        "write_tensors(Path(sys.argv[1]), {n: torch.arange(3.0) for n in set('abcdef')}, {n: 1 for n in set('uvwxyz')})"
    )
    written = []
    for seed in ("0", "1"):
        path = tmp_path / f"{seed}.safetensors"
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        subprocess.run([sys.executable, "-c", script, str(path)], check=True, env=environment)
        written.append(path.read_bytes())
    assert written[0] == written[1]


def test_the_hash_of_tensors_sees_names_shapes_types_and_bytes():
    base = {"a": torch.zeros(2, 3), "b": torch.ones(1)}
    others = [
        {"c": torch.zeros(2, 3), "b": torch.ones(1)},
        {"a": torch.zeros(3, 2), "b": torch.ones(1)},
        {"a": torch.zeros(2, 3), "b": torch.ones(1, dtype=torch.int32)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(1)},
    ]
    assert hash_tensors(base) == hash_tensors(dict(reversed(base.items())))
    assert len({hash_tensors(tensors) for tensors in [base, *others]}) == 5
