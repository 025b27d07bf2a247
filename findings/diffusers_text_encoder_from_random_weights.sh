#!/usr/bin/env bash
# diffusers 0.42.1 with transformers 5.23.0: a pipeline whose text encoder's file has the names of a compiled model
# (`_orig_mod.` before each) loads without an error. None of its tensors is taken, all are drawn anew, and two loads of
# one folder read a prompt differently; the only word of it is a log record of transformers. The same fault in the U-Net
# is another thing: it loads with a log record, its parameters have no data (device "meta"), and the error comes when the
# pipeline is moved or used, in words about meta tensors. Compare the names in the files with the models' before.
#
# Guessed before the run: an error while loading, for both. Seen:
#   text encoder with prefixed names: loaded, two loads differ: True
#   U-Net with prefixed names: loaded, parameters on {'meta'}
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check uv
"$work/env/bin/uv" pip install --quiet --python "$work/env/bin/python" diffusers==0.42.1 transformers==5.23.0 torch==2.13.0 accelerate==1.15.0 safetensors==0.8.0
"$work/env/bin/python" - "$work/pipeline" 2> "$work/log" <<'PYTHON'
import json
import sys
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

folder = Path(sys.argv[1])
vocabulary = folder.parent / "words"
vocabulary.mkdir()
letters = ["<|startoftext|>", "<|endoftext|>", *"abcdefgh", *(f"{letter}</w>" for letter in "abcdefgh")]
(vocabulary / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(letters)}))
(vocabulary / "merges.txt").write_text("#version: 0.2\n")
tokenizer = CLIPTokenizer(str(vocabulary / "vocab.json"), str(vocabulary / "merges.txt"), model_max_length=16)
text = CLIPTextModel(
    CLIPTextConfig(vocab_size=len(letters), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
                   num_attention_heads=2, max_position_embeddings=16, bos_token_id=0, eos_token_id=1)
)  # fmt: skip
unet = UNet2DConditionModel(
    sample_size=8, in_channels=4, out_channels=4, block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=16, attention_head_dim=2,
)  # fmt: skip
vae = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, latent_channels=4)
StableDiffusionPipeline(
    vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=DDIMScheduler(), safety_checker=None,
    feature_extractor=None, requires_safety_checker=False,
).save_pretrained(folder)  # fmt: skip


def prefix(path: Path) -> None:
    save_file({f"_orig_mod.{name}": tensor for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})


def read_prompt() -> torch.Tensor:
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    with torch.no_grad():
        return pipeline.encode_prompt("a b c", "cpu", 1, False)[0]


print("diffusers", diffusers.__version__, "transformers", transformers.__version__)
assert torch.equal(read_prompt(), read_prompt())
prefix(folder / "text_encoder/model.safetensors")
differ = not torch.allclose(read_prompt(), read_prompt(), atol=1e-3)
print(f"text encoder with prefixed names: loaded, two loads differ: {differ}")
prefix(folder / "unet/diffusion_pytorch_model.safetensors")
devices = {
    parameter.device.type
    for parameter in StableDiffusionPipeline.from_pretrained(folder, safety_checker=None).unet.parameters()
}
print(f"U-Net with prefixed names: loaded, parameters on {devices}")
assert differ and devices == {"meta"}, "changed"
PYTHON
