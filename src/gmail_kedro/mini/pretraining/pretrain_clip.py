"""Trains the mini CLIP from web-style texts: a stock open_clip ViT and text tower, packaged as the hub does."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.mini.pretraining.reading_heads import ReadingHeads, digits_on_patches, scene_facts
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.world.caption_grammar import web_text
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import IMAGE_SIZE, ScenePool, draw_pool

if TYPE_CHECKING:
    from open_clip import CustomTextCLIP
    from transformers import PreTrainedTokenizerBase


CONTEXT_LENGTH, WEB_TOKENS = 77, 28
PIXEL_MEAN, PIXEL_DEVIATION = (0.78, 0.72, 0.66), (0.27, 0.27, 0.29)
TEXTS_PER_SCENE = 4
PATCH_SIZE = 4


def clip_config(vocab_size: int) -> dict[str, Any]:
    """Returns the ``model_cfg`` of the mini CLIP, as open_clip reads it from JSON."""
    return {
        "embed_dim": 128,
        "vision_cfg": {
            "image_size": IMAGE_SIZE,
            "patch_size": PATCH_SIZE,
            "width": 128,
            "head_width": 32,
            "layers": 4,
            "pool_type": "avg",
        },
        "text_cfg": {
            "context_length": CONTEXT_LENGTH,
            "vocab_size": vocab_size,
            "width": 128,
            "heads": 4,
            "layers": 2,
            "hf_tokenizer_name": "mini",
            "tokenizer_kwargs": {},
        },
        "custom_text": True,
    }


def pretrain_clip(
    tokenizer: "PreTrainedTokenizerBase",
    *,
    steps: int,
    stop_after: int,
    scene_count: int,
    batch_size: int,
    seed: int,
    work: Path,
) -> "CustomTextCLIP":
    """Returns a CLIP trained by the symmetric contrastive loss on web-style texts.

    A small ViT learns to read slowly from texts alone, so two reading losses help it along, and their heads are
    thrown away: the scene's facts from the embedding, and the digit on each patch from the patch tokens.

    Args:
        tokenizer: A CLIP tokenizer.
        steps: Length of the learning-rate schedule, in steps.
        stop_after: Steps that are taken; stopping early leaves room to gain.
        scene_count: Number of training scenes.
        batch_size: Pairs a step.
        seed: Seeds scenes, texts and weights.
        work: Folder for the resumable training state.
    """
    from open_clip import CustomTextCLIP

    torch.manual_seed(seed)
    config = clip_config(len(tokenizer))
    model = CustomTextCLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"])
    images, tokens, patches, facts = _draw_training_data(tokenizer, scene_count=scene_count, seed=seed)
    reading = ReadingHeads(config["embed_dim"], config["vision_cfg"]["width"])
    optimizer = build_adamw([*model.parameters(), *reading.parameters()], learning_rate=1e-3, weight_decay=0.05)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=300)

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(seed, Stream.CLIP, index)
        rows, which = rng.integers(0, len(images), batch_size), rng.integers(0, TEXTS_PER_SCENE, batch_size)
        image, patch_tokens = model.visual(normalize_pixels(images[rows]))
        text = model.encode_text(tokens[rows, which], normalize=True).float()
        logits = model.logit_scale.exp() * F.normalize(image.float(), dim=-1) @ text.T
        target = torch.arange(batch_size)
        contrast = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        read = reading.loss(image, patch_tokens, facts[rows], patches[rows])
        return {"loss": contrast + read, "contrast": contrast, "reading": read}

    @torch.no_grad()
    def clamp_scale(_: int) -> None:
        model.logit_scale.clamp_(0, np.log(100))  # CLIP's ceiling of the temperature

    model.visual.output_tokens = True
    full_mask = model.text.attn_mask
    model.text.attn_mask = full_mask[:WEB_TOKENS, :WEB_TOKENS]  # web texts are short: do not pay for 77 tokens
    run_training(
        step,
        optimizer,
        schedule,
        name="clip",
        steps=stop_after,
        every=200,
        checkpoint=Checkpoint(work / "clip.safetensors", {"steps": str(steps), "seed": str(seed)}, every=500),
        after_step=clamp_scale,
    )
    model.text.attn_mask, model.visual.output_tokens = full_mask, False
    return model.eval()


def normalize_pixels(images: torch.Tensor) -> torch.Tensor:
    """Maps uint8 pixels [N, 3, H, W] to the mini CLIP's input range."""
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXEL_MEAN, PIXEL_DEVIATION))
    return (images.float() / 255 - mean) / deviation


@dataclass(frozen=True)
class PackagedClip:
    """A trained CLIP or SigLIP with what open_clip needs beside the weights.

    Attributes:
        model: The trained towers.
        tokenizer: Goes into the same folder.
        config: open_clip's ``model_cfg``.
    """

    model: "CustomTextCLIP"
    tokenizer: "PreTrainedTokenizerBase"
    config: dict[str, Any]

    def save_pretrained(self, folder: Path) -> None:
        """Writes the layout open_clip loads as ``local-dir:``: JSON config, float16 safetensors, tokenizer."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "model_cfg": self.config,
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


def _tokenize(pool: ScenePool, tokenizer: "PreTrainedTokenizerBase", *, seed: int) -> torch.Tensor:
    """Returns token ids [N, 4, 28] of web texts; a text now and then describes the next scene instead."""
    rng = stream_rng(seed, Stream.CLIP_TEXTS)
    strangers = [*pool.scenes[1:], pool.scenes[0]]
    texts = [
        web_text(scene, rng, stranger=stranger)
        for scene, stranger in zip(pool.scenes, strangers, strict=True)
        for _ in range(TEXTS_PER_SCENE)
    ]
    encoded = tokenizer(texts, padding="max_length", max_length=WEB_TOKENS, truncation=True, return_tensors="pt")
    return encoded.input_ids.view(len(pool.scenes), TEXTS_PER_SCENE, WEB_TOKENS)


def _draw_training_data(
    tokenizer: "PreTrainedTokenizerBase", *, scene_count: int, seed: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns pixels [N, 3, 32, 32], web-text tokens [N, 4, 28], patch digits [N, 64] and facts [N, 7]."""
    scans = load_scans("train")
    pool = draw_pool(scans, count=scene_count, seed=seed + 1)
    images = torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)
    patches = digits_on_patches(pool.scenes, scans, patch=PATCH_SIZE)
    return images, _tokenize(pool, tokenizer, seed=seed), patches, scene_facts(pool.scenes)
