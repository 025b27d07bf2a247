"""Files that are whole or not there, and known again; tensors come back as they were, or are refused."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from gmail_kedro.whole_files import (
    SUMS,
    DamagedFileError,
    KnownFolder,
    atomic_folder,
    atomic_write,
    hash_tensors,
    know_folder,
    known_write,
    read_tensors,
    refuse_changed,
    write_tensors,
)


def test_a_file_is_there_when_the_block_ends(tmp_path: Path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as partial:
        partial.write_text("whole")
        assert not path.exists() and partial.parent == path.parent
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("a.txt", "whole")]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), atomic_write(path) as partial:
        partial.write_text("ha")
        raise RuntimeError("half way")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("a.txt", "old")]


@pytest.mark.reliability(1)
def test_a_killed_writer_leaves_the_old_file_and_its_rest_goes_with_the_next_one(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from gmail_kedro.whole_files import atomic_write
        with atomic_write(Path({str(path)!r})) as partial:
            partial.write_text("ha")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", program])
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    of_another_kind = tmp_path / f"a.txt.{socket.gethostname()}.{os.getpid()}.partial"  # of a process that lives
    of_another_kind.touch()
    with atomic_write(tmp_path / "b.txt") as partial:
        partial.write_text("b")
    assert len(list(tmp_path.iterdir())) == 4
    of_another_kind.unlink()
    with atomic_write(path) as partial:
        partial.write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.txt": "new", "b.txt": "b"}


def test_a_partial_file_of_another_machine_is_left_to_it(tmp_path: Path):
    elsewhere = tmp_path / "a.txt.another-machine.1.partial"
    elsewhere.touch()
    with atomic_write(tmp_path / "a.txt") as partial:
        partial.write_text("whole")
    assert elsewhere.exists()


def test_a_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path):
    folder = tmp_path / "model"
    for content in ("old", "new"):
        with atomic_folder(folder) as partial:
            (partial / content).write_text(content)
    assert [path.name for path in folder.iterdir()] == ["new"]
    with pytest.raises(RuntimeError, match="half way"), atomic_folder(folder) as partial:
        (partial / "ha").touch()
        raise RuntimeError("half way")
    assert [path.name for path in tmp_path.iterdir()] == ["model"] and (folder / "new").is_file()


def write_known(folder: Path, *names: str) -> None:
    for name in names:
        with known_write(folder / name) as partial:
            partial.write_text(name)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda sums: "", "it is empty"),
        (lambda sums: sums[: len(sums) // 2 + 9], "line 2 is not a sha256 and a name"),
        (lambda sums: sums[:-1], "line 2 is not a sha256 and a name"),
        (lambda sums: "x" + sums[1:], "line 1 is not a sha256 and a name"),
        (lambda sums: sums.replace("a.txt", "e.txt"), "it has a line of e.txt, which is not there, and none of a.txt"),
    ],
)
def test_damaged_checksums_are_said_and_both_remedies_work(change, fault, tmp_path: Path, caplog):
    write_known(tmp_path, "a.txt", "b.txt")
    (tmp_path / SUMS).write_text(change((tmp_path / SUMS).read_text()))
    with pytest.raises(DamagedFileError, match=f"{SUMS} is damaged .{fault}.*Delete it to take the files"):
        refuse_changed(tmp_path / "a.txt")
    write_known(tmp_path, "a.txt", "b.txt")
    assert f"{SUMS} is damaged" in caplog.text or "which is not there" in fault
    for name in ("a.txt", "b.txt"):
        refuse_changed(tmp_path / name)
    (tmp_path / SUMS).write_text("damaged")
    (tmp_path / SUMS).unlink()
    refuse_changed(tmp_path / "a.txt")


def test_a_folder_that_was_written_as_a_whole_is_known_file_by_file(tmp_path: Path):
    deep = tmp_path / "images/a.jpg"
    deep.parent.mkdir()
    deep.write_bytes(b"picture")
    know_folder(tmp_path)
    files = KnownFolder(tmp_path, remedy="Write it again.")
    assert files.names == ("images/a.jpg",) and files.read(deep) == b"picture"
    deep.write_bytes(b"pictures")
    (tmp_path / "images/b.jpg").touch()
    for path in (deep, tmp_path / "images/b.jpg"):
        with pytest.raises(DamagedFileError, match=f"{path} is not what was written.*Write it again."):
            files.read(path)
    with pytest.raises(FileNotFoundError, match="c.jpg is not there, of which SHA256SUMS .* Write it again."):
        files.read(tmp_path / "images/c.jpg")
    (tmp_path / SUMS).write_text("")
    with pytest.raises(DamagedFileError, match="it is empty"):
        KnownFolder(tmp_path, remedy="Write it again.")


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
        "import sys, torch; from pathlib import Path; from gmail_kedro.whole_files import write_tensors;"
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
