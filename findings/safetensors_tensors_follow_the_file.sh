#!/usr/bin/env bash
# safetensors 0.8.0 with torch 2.13.0: a tensor that safe_open(...).get_tensor or load_file returned on the CPU is a view
# of the mapped file, also after the file was closed. Whoever writes into the file in place later (not: renames another
# over it) changes the loaded weights, and a checksum taken after loading says nothing about what is used next week.
# safetensors.torch.load, given the bytes, and .clone() are copies.
#
# Guessed before the run: a copy, since the file is closed at the end of the block. Seen:
#   after one value was overwritten in the file: safe_open 9.0, load_file 9.0, clone 1.0, load(bytes) 1.0
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" safetensors==0.8.0 torch==2.13.0 numpy==2.4.6
"$work/env/bin/python" - "$work/weights.safetensors" <<'PYTHON'
import struct
import sys
from pathlib import Path

import safetensors
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save_file

path = Path(sys.argv[1])
save_file({"weight": torch.ones(1024)}, path)
with safe_open(path, framework="pt") as stored:
    opened = stored.get_tensor("weight")
loaded, copied, parsed = load_file(path)["weight"], opened.clone(), load(path.read_bytes())["weight"]
with path.open("r+b") as file:
    file.seek(-4 * 1024, 2)
    file.write(struct.pack("<f", 9.0))
found = [float(tensor[0]) for tensor in (opened, loaded, copied, parsed)]
print("safetensors", safetensors.__version__, "torch", torch.__version__)
print("after one value was overwritten in the file: safe_open {}, load_file {}, clone {}, load(bytes) {}".format(*found))
assert found == [9.0, 9.0, 1.0, 1.0], "changed"
PYTHON
