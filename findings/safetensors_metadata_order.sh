#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors with the same metadata give other bytes at every call, in one process too, as soon
# as the metadata has more than one key. The header holds them in the order of a randomly seeded hash map; tensors are
# sorted. With one key (or none) the bytes are always the same. So a file with two keys has no checksum to compare with,
# and a data version tool sees a change where nothing changed: put all facts into one key, as sorted JSON.
#
# Guessed before the run: metadata in the order given, or sorted. Seen (20 calls each, in one process):
#   1 key: 1 different file(s)
#   4 keys: 12 different file(s) (the number changes)
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import safetensors
from safetensors.numpy import load, save

tensors = {"weight": np.zeros(3, np.float32), "bias": np.ones(2, np.float32)}


def count_files(metadata):
    files = {save(tensors, metadata=metadata) for _ in range(20)}
    assert all(load(file).keys() == tensors.keys() for file in files)
    return len(files)


print("safetensors", safetensors.__version__)
one, four = count_files({"a": "1"}), count_files({"a": "1", "b": "2", "c": "3", "d": "4"})
print(f"1 key: {one} different file(s)\n4 keys: {four} different file(s)")
assert one == 1 and four > 1, "changed: the bytes no longer depend on the call"
PYTHON
