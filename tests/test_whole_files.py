import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from gmail_kedro.whole_files import whole_file


def test_a_file_is_there_when_the_block_ends(tmp_path: Path):
    path = tmp_path / "new" / "a.txt"
    with whole_file(path) as partial:
        partial.write_text("whole")
        assert not path.exists() and partial.parent == path.parent
    assert [(file.name, file.read_text()) for file in path.parent.iterdir()] == [("a.txt", "whole")]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), whole_file(path) as partial:
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
        from gmail_kedro.whole_files import whole_file
        with whole_file(Path({str(path)!r})) as partial:
            partial.write_text("ha")
            os.kill(os.getpid(), signal.SIGKILL)
    """)
    killed = subprocess.run([sys.executable, "-c", program])
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old" and len(list(tmp_path.iterdir())) == 2
    of_another_kind = tmp_path / f"a.txt.{os.getpid()}.partial"  # of a process that lives
    of_another_kind.touch()
    with whole_file(tmp_path / "b.txt") as partial:
        partial.write_text("b")
    assert len(list(tmp_path.iterdir())) == 4
    of_another_kind.unlink()
    with whole_file(path) as partial:
        partial.write_text("new")
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"a.txt": "new", "b.txt": "b"}
