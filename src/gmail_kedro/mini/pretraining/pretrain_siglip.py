"""Trains the mini SigLIP: a stock timm tower with attention pooling and a text tower, by the pairwise sigmoid loss."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.interfaces import ImageTextEncoder
from gmail_kedro.mini.pretraining.reading_heads import ReadingHeads
from gmail_kedro.mini.pretraining.training_examples import (
    Training,
    TrainingExamples,
    copying_loss,
    draw_examples,
    narrow_targets,
    standardize,
    widen_start,
)
from gmail_kedro.mini.world.caption_grammar import web_text
from gmail_kedro.mini.world.scenes import Scene

if TYPE_CHECKING:
    from open_clip import CustomTextCLIP
    from transformers import PreTrainedTokenizerBase

SIGLIP_CONTEXT, TEXTS_PER_SCENE = 64, 4
PIXEL_MEAN = PIXEL_DEVIATION = (0.5, 0.5, 0.5)
FIRST_SCALE, FIRST_BIAS = 10.0, -10.0  # SigLIP's: nearly all pairs are negative, and the loss must begin near that
WIDTH, SIDE = 64, 128
SEEING_CYCLES = 2  # of the learning rate: one warm restart


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
    steps: tuple[int, int],  # of the image tower, and of the text tower
    scene_count: int,
    batch_size: int,
    seed: int,
    work: Path,
) -> "CustomTextCLIP":
    """Returns a SigLIP: its image tower learns to see from the teacher, then its text tower to read (LiT's order)."""
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
    examples = draw_examples(teacher, scene_count=scene_count, seed=seed)
    facts = {"seed": str(seed), "scenes": str(scene_count), "steps": str(steps[0])}
    seeing = Training(steps[0], batch_size, seed, Checkpoint(work / "siglip_seeing.safetensors", facts, every=200))
    facts = facts | {"reading_steps": str(steps[1])}
    reading = Training(steps[1], batch_size, seed, Checkpoint(work / "siglip_reading.safetensors", facts, every=500))
    widen_start(model.visual.trunk)
    _learn_to_see(model.visual.trunk, examples, seeing)
    _learn_to_read(model, examples, tokenizer, reading)
    return model.eval()


def _learn_to_see(trunk: Any, examples: TrainingExamples, training: Training) -> None:
    """Trains the image tower to copy the teacher's embeddings, with the reading losses as help."""
    targets, heads = narrow_targets(examples.targets, WIDTH), ReadingHeads(WIDTH, WIDTH)
    optimizer = build_adamw([*trunk.parameters(), *heads.parameters()], learning_rate=2e-3, weight_decay=0.02)
    warmup_steps = min(60, training.steps)
    schedule = build_schedule(
        optimizer, kind="cosine", steps=training.steps, warmup_steps=warmup_steps, restarts=SEEING_CYCLES
    )

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(training.seed, Stream.SIGLIP_IMAGES, index)
        rows = rng.integers(0, len(targets), training.batch_size)
        states = trunk.forward_features(_pixels(examples.images[rows]))
        image, patch_tokens = trunk.forward_head(states), states[:, trunk.num_prefix_tokens :]
        copied = copying_loss(image, targets[rows])
        read = heads.loss(image, patch_tokens, examples.facts[rows], examples.patches[rows])
        return {"loss": copied + read, "copying": copied, "reading": read}

    training.run(step, optimizer, schedule, name="siglip seeing")


def _learn_to_read(
    model: "CustomTextCLIP", examples: TrainingExamples, tokenizer: "PreTrainedTokenizerBase", training: Training
) -> None:
    """Trains text tower, scale and bias by the sigmoid loss; the image tower is finished and its output cached."""
    tokens = tokenize_web_texts(examples.scenes, tokenizer, seed=training.seed)
    with torch.no_grad(), fast_arithmetic(torch.device("cpu"), precision="auto"):
        model.visual.eval()
        images = torch.cat([model.encode_image(_pixels(part)).float() for part in examples.images.split(250)])
    learning = [*model.text.parameters(), model.logit_scale, model.logit_bias]
    optimizer = build_adamw(learning, learning_rate=3e-3, weight_decay=0.02)
    schedule = build_schedule(optimizer, kind="cosine", steps=training.steps, warmup_steps=min(100, training.steps))

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(training.seed, Stream.SIGLIP_TEXT_TOWER, index)
        rows = rng.integers(0, len(tokens), training.batch_size)
        text = model.encode_text(tokens[rows, rng.integers(0, TEXTS_PER_SCENE, training.batch_size)])
        return {"loss": sigmoid_loss(images[rows], text, model.logit_scale.exp(), model.logit_bias)}

    training.run(step, optimizer, schedule, name="siglip reading")


def _pixels(images: torch.Tensor) -> torch.Tensor:
    return standardize(images, size=SIDE, mean=PIXEL_MEAN, deviation=PIXEL_DEVIATION)


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

    rng, clean = stream_rng(seed, Stream.SIGLIP_TEXTS), get_clean_fn("canonicalize")
    texts = [clean(web_text(scene, rng)) for scene in scenes for _ in range(TEXTS_PER_SCENE)]
    encoded = tokenizer(texts, padding="max_length", max_length=SIGLIP_CONTEXT, truncation=True, return_tensors="pt")
    return encoded.input_ids.view(len(scenes), TEXTS_PER_SCENE, SIGLIP_CONTEXT)
