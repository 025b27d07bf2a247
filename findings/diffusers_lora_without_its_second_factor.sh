#!/usr/bin/env bash
# diffusers 0.42.1 with peft 0.21.2: load_lora_weights takes a LoRA file that has lora_A of a layer and not its lora_B.
# There is a log record and no error; the adapter is listed as loaded. The missing factor is not PEFT's zeros, which would
# leave the layer as it was: it has no data at all (device "meta"), and the U-Net runs with it all the same, on the CPU
# and without an error, and returns NaN. (Moving the pipeline to a device first ends in an error about meta tensors.) A
# layer that lacks both factors is left as it was. Compare the file's names in pairs before loading.
#
# Guessed before the run: an error, or zeros as for a fresh adapter. Seen:
#   adapters loaded: ['default_0']; missing factors on {'meta'}
#   output on cpu: 256 of 256 values are NaN
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" diffusers==0.42.1 peft==0.21.2 transformers==5.23.0 torch==2.13.0 accelerate==1.15.0
"$work/env/bin/python" - 2> "$work/log" <<'PYTHON'
import diffusers
import peft
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

unet = UNet2DConditionModel(
    sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=16, attention_head_dim=2,
)  # fmt: skip
pipeline = StableDiffusionPipeline(
    vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4), text_encoder=None, tokenizer=None,
    unet=unet, scheduler=DDIMScheduler(), safety_checker=None, feature_extractor=None, requires_safety_checker=False,
)  # fmt: skip
layers = {name: layer for name, layer in unet.named_modules() if name.endswith(("to_q", "to_v"))}
adapter = {}
for name, layer in layers.items():
    adapter[f"unet.{name}.lora_A.weight"] = torch.randn(2, layer.in_features)
    if name.endswith("to_q"):
        adapter[f"unet.{name}.lora_B.weight"] = torch.randn(layer.out_features, 2)
inputs = torch.randn(1, 4, 8, 8), 5, torch.randn(1, 3, 16)
with torch.no_grad():
    before = unet(*inputs).sample
pipeline.load_lora_weights(adapter)
with torch.no_grad():
    after = unet(*inputs).sample
print("diffusers", diffusers.__version__, "peft", peft.__version__)
listed = pipeline.get_list_adapters()["unet"]
devices = {value.device.type for name, value in unet.named_parameters() if "to_v.lora_B" in name}
print(f"adapters loaded: {listed}; missing factors on {devices}")
print(f"output on {after.device}: {int(after.isnan().sum())} of {after.numel()} values are NaN")
assert before.isfinite().all() and listed and devices == {"meta"} and after.isnan().any(), "changed"
PYTHON
