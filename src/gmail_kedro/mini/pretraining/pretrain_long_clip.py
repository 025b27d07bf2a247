"""Trains the mini Long-CLIP: a CLIP of 77 tokens in OpenAI's layout, stretched to 248 and tuned on long captions."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.mini.pretraining.long_texts import (
    TEXTS_PER_SCENE,
    WEB_TOKENS,
    tokenize_long_captions,
    tokenize_web_texts,
)
from gmail_kedro.mini.pretraining.training_examples import Training, matching_loss, standardize
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import IMAGE_SIZE, Scene, draw_pool
from gmail_kedro.models.encoders.long_clip import stretch_clip

if TYPE_CHECKING:
    from open_clip import CustomTextCLIP
    from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase

SHORT_CONTEXT = 77
COMPONENTS = 32
SMOOTHING = 0.1
CPU = torch.device("cpu")
BLOCK_NAMES = {
    "self_attn.out_proj": "attn.out_proj",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}
LONG_SCENES = 6000


def long_clip_config(vocab_size: int) -> dict[str, Any]:
    """Returns the ``model_cfg`` of the CLIP that is stretched: OpenAI's layout, with a class token and QuickGELU."""
    return {
        "embed_dim": 128,
        "quick_gelu": True,
        "vision_cfg": {"image_size": IMAGE_SIZE, "patch_size": 4, "width": 96, "head_width": 32, "layers": 4},
        "text_cfg": {
            "context_length": SHORT_CONTEXT,
            "vocab_size": vocab_size,
            "width": 96,
            "heads": 3,
            "layers": 2,
            "hf_tokenizer_name": "mini",
            "tokenizer_kwargs": {},
        },
    }


def pretrain_long_clip(
    vision: "CLIPVisionModelWithProjection",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    steps: tuple[int, int],
    scene_count: int,
    batch_size: int,
    seed: int,
    work: Path,
) -> "CustomTextCLIP":
    """Returns a Long-CLIP made as the real one was: a finished CLIP of 77 tokens is stretched and tuned.

    Args:
        vision: The mini CLIP vision tower, whose weights are the CLIP's image tower.
        tokenizer: A CLIP tokenizer.
        steps: Optimizer steps of the text tower before the stretching, and of all weights after it.
        scene_count: Number of training scenes.
        batch_size: Pairs a step.
        seed: Seeds scenes, texts and weights.
        work: Folder for the resumable training state.
    """
    from open_clip import CustomTextCLIP

    torch.manual_seed(seed)
    config = long_clip_config(len(tokenizer))
    model = CustomTextCLIP(config["embed_dim"], config["vision_cfg"], config["text_cfg"], quick_gelu=True)
    model.visual.load_state_dict(openai_names(vision))  # strict: a name that is wrong must not leave random weights
    pool = draw_pool(load_scans("train"), count=scene_count, seed=seed + 45)
    scenes = DrawnScenes(pool.scenes, torch.from_numpy(pool.pixels).permute(0, 3, 1, 2))
    facts = {"seed": str(seed), "scenes": str(scene_count), "steps": str(steps[0])}
    short = Training(steps[0], batch_size, seed, Checkpoint(work / "short_clip.safetensors", facts, every=500))
    facts = facts | {"long_steps": str(steps[1])}
    long = Training(steps[1], batch_size, seed, Checkpoint(work / "long_clip.safetensors", facts, every=50))
    _learn_short(model, scenes, tokenizer, short)
    stretch_clip(model)
    _learn_long(model, scenes, tokenizer, long)
    return model.eval()


@dataclass(frozen=True)
class DrawnScenes:
    """Scenes with their pixels.

    Attributes:
        scenes: The facts, N of them.
        images: uint8 of shape [N, 3, 32, 32].
    """

    scenes: list[Scene]
    images: torch.Tensor


def openai_names(vision: "CLIPVisionModelWithProjection") -> dict[str, torch.Tensor]:
    """Returns the weights of transformers' vision tower under the names of OpenAI's."""
    state = {name.removeprefix("vision_model."): value.float() for name, value in vision.state_dict().items()}
    renamed = {
        "class_embedding": state["embeddings.class_embedding"],
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "conv1.weight": state["embeddings.patch_embedding.weight"],
        "proj": state["visual_projection.weight"].T,
    }
    for end in ("weight", "bias"):
        renamed[f"ln_pre.{end}"] = state[f"pre_layrnorm.{end}"]
        renamed[f"ln_post.{end}"] = state[f"post_layernorm.{end}"]
        for block in range(vision.config.num_hidden_layers):
            old, new = f"encoder.layers.{block}", f"transformer.resblocks.{block}"
            query_key_value = [state[f"{old}.self_attn.{part}_proj.{end}"] for part in "qkv"]
            renamed[f"{new}.attn.in_proj_{end}"] = torch.cat(query_key_value)
            for theirs, ours in BLOCK_NAMES.items():
                renamed[f"{new}.{ours}.{end}"] = state[f"{old}.{theirs}.{end}"]
    return renamed


def _learn_short(
    model: "CustomTextCLIP", scenes: DrawnScenes, tokenizer: "PreTrainedTokenizerBase", training: Training
) -> None:
    """Trains the text tower of a 77-token CLIP on web texts; the image tower is finished and its output cached."""
    tokens = tokenize_web_texts(scenes.scenes, tokenizer, seed=training.seed)
    with torch.no_grad(), fast_arithmetic(CPU, precision="auto"):
        targets = torch.cat([model.encode_image(standardize(part)).float() for part in scenes.images.split(250)])
    optimizer = build_adamw([*model.text.parameters(), model.logit_scale], learning_rate=2e-3, weight_decay=0.05)
    schedule = build_schedule(optimizer, kind="cosine", steps=training.steps, warmup_steps=min(100, training.steps))
    full_mask = model.text.attn_mask
    model.text.attn_mask = full_mask[:WEB_TOKENS, :WEB_TOKENS]  # web texts are short: do not pay for 77 tokens

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(training.seed, Stream.SHORT_CLIP, index)
        rows = rng.integers(0, len(tokens), training.batch_size)
        which = rng.integers(0, TEXTS_PER_SCENE, training.batch_size)
        return {"loss": matching_loss(targets[rows], model.encode_text(tokens[rows, which]), _scale(model))}

    training.run(step, optimizer, schedule, name="short clip")
    model.text.attn_mask = full_mask


def _learn_long(
    model: "CustomTextCLIP", scenes: DrawnScenes, tokenizer: "PreTrainedTokenizerBase", training: Training
) -> None:
    """Tunes a stretched CLIP: images against long captions, and their main components against short texts."""
    count = min(LONG_SCENES, len(scenes.images))
    long_tokens = tokenize_long_captions(scenes.scenes[:count], tokenizer, seed=training.seed)
    short_tokens = tokenize_web_texts(scenes.scenes[:count], tokenizer, seed=training.seed)
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = build_adamw(learning, learning_rate=4e-4, weight_decay=0.01)
    schedule = build_schedule(optimizer, kind="cosine", steps=training.steps, warmup_steps=min(20, training.steps))

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(training.seed, Stream.LONG_CLIP, index)
        rows = rng.integers(0, count, training.batch_size)
        which = rng.integers(0, TEXTS_PER_SCENE, training.batch_size)
        image = model.encode_image(standardize(scenes.images[rows])).float()
        coarse = main_components(image, COMPONENTS)
        long = matching_loss(image, model.encode_text(long_tokens[rows]), _scale(model), SMOOTHING)
        short = matching_loss(coarse, model.encode_text(short_tokens[rows, which]), _scale(model), SMOOTHING)
        return {"loss": long + short, "long": long, "short": short}

    training.run(step, optimizer, schedule, name="long clip")


def main_components(features: torch.Tensor, count: int) -> torch.Tensor:
    """Returns features [B, D] rebuilt from their ``count`` main components and their mean (Long-CLIP, section 3.2).

    What is left is what the batch differs in most, which is what a short text can speak of.
    """
    mean = features.mean(0, keepdim=True)
    centred = features - mean
    with torch.no_grad():
        directions = torch.linalg.svd(centred, full_matrices=False).Vh[:count]
    return centred @ directions.T @ directions + mean


@dataclass(frozen=True)
class PackagedLongClip:
    """A trained Long-CLIP with what a known encoder needs beside the weights.

    Attributes:
        model: The stretched CLIP.
        tokenizer: Goes into the same folder.
    """

    model: "CustomTextCLIP"
    tokenizer: "PreTrainedTokenizerBase"

    def save_pretrained(self, folder: Path) -> None:
        """Writes the published layout (OpenAI CLIP's names, two tables), float16, with configuration and tokenizer."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_cfg": long_clip_config(len(self.tokenizer)), "preprocess_cfg": {}}
        (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
        state = {name.removeprefix("text."): value.half() for name, value in self.model.state_dict().items()}
        save_file({name: value.contiguous() for name, value in state.items()}, folder / "longclip.safetensors")
        self.tokenizer.save_pretrained(folder)


def _scale(model: "CustomTextCLIP") -> torch.Tensor:
    return model.logit_scale.clamp(0, np.log(100)).exp()
