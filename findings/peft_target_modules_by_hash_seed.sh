#!/usr/bin/env bash
# peft 0.21.2: the same adapter saved by two processes is two different folders. `target_modules` is a set, and
# save_pretrained writes it into adapter_config.json in the set's order, which changes with the hash seed; the tensors
# are the same to the byte. Whoever hashes an adapter's folder (DVC, a cache, a fingerprint) sees another adapter in every
# process, though a list was given. Sort the list in the file after saving.
#
# Guessed before the run: the order that was given, since a list went in. Seen (hash seeds 0 to 7):
#   adapter_config.json: 5 different file(s); adapter_model.safetensors: 1 different file(s)
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" peft==0.21.2 torch==2.13.0 transformers==5.23.0 numpy==2.4.6
cat > "$work/save.py" <<'PYTHON'
import sys

import torch
from peft import LoraConfig, get_peft_model


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            setattr(self, name, torch.nn.Linear(4, 4))


torch.manual_seed(0)
model = get_peft_model(Block(), LoraConfig(r=2, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"]))
model.save_pretrained(sys.argv[1])
PYTHON
for seed in $(seq 0 7); do PYTHONHASHSEED=$seed "$work/env/bin/python" "$work/save.py" "$work/saved/$seed" 2> /dev/null; done
"$work/env/bin/python" -c 'import peft; print("peft", peft.__version__)' 2> /dev/null
configs=$(sha256sum "$work"/saved/*/adapter_config.json | cut -d' ' -f1 | sort -u | wc -l)
tensors=$(sha256sum "$work"/saved/*/adapter_model.safetensors | cut -d' ' -f1 | sort -u | wc -l)
echo "adapter_config.json: $configs different file(s); adapter_model.safetensors: $tensors different file(s)"
[ "$configs" -gt 1 ] && [ "$tensors" = 1 ] || { echo "changed" >&2; exit 1; }
