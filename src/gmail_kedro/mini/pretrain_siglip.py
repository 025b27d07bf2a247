"""Trains the mini SigLIP: a stock timm tower with attention pooling and a text tower, by the pairwise sigmoid loss."""

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import fit
from gmail_kedro.engine.optim import build_adamw, build_schedule
from gmail_kedro.engine.progress import report_losses
from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.interfaces import ImageTextEncoder
from gmail_kedro.mini.captions import web_text
from gmail_kedro.mini.lessons import copying_loss, draw_lessons, standardize
from gmail_kedro.mini.reading_heads import ReadingHeads
from gmail_kedro.mini.scenes import Scene

if TYPE_CHECKING:
    from open_clip import CustomTextCLIP
    from transformers import PreTrainedTokenizerBase

logger = logging.getLogger(__name__)

SIGLIP_CONTEXT, TEXTS_PER_SCENE = 64, 4
PIXEL_MEAN = PIXEL_DEVIATION = (0.5, 0.5, 0.5)
FIRST_SCALE, FIRST_BIAS = 10.0, -10.0
WIDTH, SIDE = 64, 128


def siglip_config(vocab_size: int) -> dict[str, Any]:
    """Returns the ``model_cfg`` of the mini SigLIP: timm's smallest ViT with attention pooling, on 64 patches of 16."""
    return {
        "embed_dim": WIDTH,
        "init_logit_bias": FIRST_BIAS,
        "custom_text": True,
        "vision_cfg": {
            "image_size": SIDE,
            "timm_model_name": "test_vit",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": {
            "context_length": SIGLIP_CONTEXT,
            "vocab_size": vocab_size,
            "hf_tokenizer_name": "mini",
            "tokenizer_kwargs": {"clean": "canonicalize"},
            "width": WIDTH,
            "heads": 2,
            "layers": 2,
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
        },
    }


def pretrain_siglip(
    teacher: ImageTextEncoder,
    tokenizer: "PreTrainedTokenizerBase",
    *,
    steps: int,
    scene_count: int,
    batch_size: int,
    seed: int,
    work: Path,
) -> "CustomTextCLIP":
    """Returns a SigLIP trained on web texts, with the teacher's image embeddings and the reading losses as help.

    Args:
        teacher: The mini CLIP, whose image embeddings a linear head copies; the head is thrown away.
        tokenizer: A SigLIP tokenizer.
        steps: Optimizer steps.
        scene_count: Number of training scenes.
        batch_size: Pairs a step.
        seed: Seeds scenes, texts and weights.
        work: Folder for the resumable training state.
    """
    from open_clip import CustomTextCLIP

    torch.manual_seed(seed)
    config = siglip_config(len(tokenizer))
    model = CustomTextCLIP(
        config["embed_dim"],
        config["vision_cfg"],
        config["text_cfg"],
        init_logit_scale=math.log(FIRST_SCALE),
        init_logit_bias=FIRST_BIAS,
    ).train()
    lessons = draw_lessons(teacher, scene_count=scene_count, seed=seed)
    tokens = tokenize_web_texts(lessons.scenes, tokenizer, seed=seed)
    heads = torch.nn.ModuleList([torch.nn.Linear(WIDTH, teacher.embed_dim), ReadingHeads(WIDTH, WIDTH)])
    optimizer = build_adamw([*model.parameters(), *heads.parameters()], learning_rate=2e-3, weight_decay=0.02)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=min(100, steps))
    trunk = model.visual.trunk

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng((seed, 51, index))
        rows, which = rng.integers(0, len(tokens), batch_size), rng.integers(0, TEXTS_PER_SCENE, batch_size)
        pixels = standardize(lessons.images[rows], size=SIDE, mean=PIXEL_MEAN, deviation=PIXEL_DEVIATION)
        states = trunk.forward_features(pixels)
        image, text = trunk.forward_head(states), model.encode_text(tokens[rows, which])
        paired = sigmoid_loss(image, text, model.logit_scale.exp(), model.logit_bias)
        copied = copying_loss(heads[0](image), lessons.targets[rows])
        patch_tokens = states[:, trunk.num_prefix_tokens :]
        read = heads[1].loss(image, patch_tokens, lessons.facts[rows], lessons.patches[rows])  # type: ignore[operator]
        return {"loss": paired + copied + read, "pairing": paired, "copying": copied, "reading": read}

    facts = {"steps": str(steps), "seed": str(seed), "scenes": str(scene_count)}
    with fast_arithmetic(torch.device("cpu"), precision="auto"):
        fit(
            step,
            optimizer,
            schedule,
            steps=steps,
            clip_norm=1.0,
            checkpoint=Checkpoint(work / "siglip.safetensors", facts, every=200),
            on_step=report_losses(logger, "siglip", every=100),
        )
    return model.eval()


def sigmoid_loss(images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Returns SigLIP's loss: every image-text pair of the batch is one yes-or-no question.

    Args:
        images: Image embeddings [B, D], normalised here.
        texts: Text embeddings [B, D]; row i describes image i.
        scale: What a cosine is multiplied by.
        bias: What is added to it.
    """
    logits = scale * F.normalize(images.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T + bias
    signs = 2 * torch.eye(len(images)) - 1
    return -F.logsigmoid(signs * logits).sum() / len(images)


def tokenize_web_texts(scenes: Sequence[Scene], tokenizer: "PreTrainedTokenizerBase", *, seed: int) -> torch.Tensor:
    """Returns ids [N, 4, 64] of web texts, cleaned as open_clip cleans what SigLIP reads."""
    from open_clip.tokenizer import get_clean_fn

    rng, clean = np.random.default_rng((seed, 53)), get_clean_fn("canonicalize")
    texts = [clean(web_text(scene, rng)) for scene in scenes for _ in range(TEXTS_PER_SCENE)]
    encoded = tokenizer(texts, padding="max_length", max_length=SIGLIP_CONTEXT, truncation=True, return_tensors="pt")
    return encoded.input_ids.view(len(scenes), TEXTS_PER_SCENE, SIGLIP_CONTEXT)


@dataclass(frozen=True)
class PackagedSigLip:
    """A trained SigLIP with what open_clip needs beside the weights.

    Attributes:
        model: The trained towers.
        tokenizer: Goes into the same folder.
    """

    model: "CustomTextCLIP"
    tokenizer: "PreTrainedTokenizerBase"

    def save_pretrained(self, folder: Path) -> None:
        """Writes the layout open_clip loads as ``local-dir:``: JSON config, float16 safetensors, tokenizer."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "model_cfg": siglip_config(len(self.tokenizer)),
            "preprocess_cfg": {
                "mean": PIXEL_MEAN,
                "std": PIXEL_DEVIATION,
                "interpolation": "bicubic",
                "resize_mode": "squash",
            },
        }
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
        state = {name: tensor.half().contiguous() for name, tensor in self.model.state_dict().items()}
        save_file(state, folder / "open_clip_model.safetensors")
        self.tokenizer.save_pretrained(folder)
