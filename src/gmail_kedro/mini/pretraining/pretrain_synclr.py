"""Trains the mini SynCLR: a stock timm tower that sees generated images only, several of each caption.

Images of one caption are one another's positives (StableRep, SynCLR): no label and no real image is used.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.interfaces import ImageGenerator, ImageTextEncoder
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.pretraining.training_examples import (
    copying_loss,
    embed_pixels,
    narrow_targets,
    standardize,
    widen_start,
)
from gmail_kedro.mini.world.caption_grammar import describe
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import sample_scene
from gmail_kedro.whole_files import read_tensors, write_tensors

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

logger = logging.getLogger(__name__)

IMAGES_PER_CAPTION, IMAGES_AT_ONCE = 4, 100
TEMPERATURE = 0.1
SIDE, WIDTH = 128, 64
ARCHITECTURE = "test_vit"


def build_synclr_tower() -> "VisionTransformer":
    """Returns an untrained tower: timm's ``test_vit``, which ends in its normalised class token."""
    import timm

    tower: Any = timm.create_model(ARCHITECTURE, num_classes=0, global_pool="token")
    return tower


def pretrain_synclr(
    teacher: ImageTextEncoder, images: torch.Tensor, *, steps: int, batch_size: int, seed: int, work: Path
) -> "VisionTransformer":
    """Returns a tower trained so that images of one caption are alike and others are not.

    A few thousand images teach little, so the features also copy the mini CLIP's embeddings of them, narrowed to
    their strongest directions.

    Args:
        teacher: The mini CLIP.
        images: Generated images, uint8 of shape [captions, 4, 3, 32, 32].
        steps: Optimizer steps.
        batch_size: Images a step, a multiple of 4.
        seed: Seeds weights and views.
        work: Folder for the resumable training state.
    """
    torch.manual_seed(seed)
    tower = build_synclr_tower().train()
    widen_start(tower)
    embeddings = embed_pixels(teacher, images.flatten(0, 1))
    targets = narrow_targets(embeddings, WIDTH).view(*images.shape[:2], WIDTH)
    project = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.GELU(), torch.nn.Linear(WIDTH, WIDTH))
    optimizer = build_adamw([*tower.parameters(), *project.parameters()], learning_rate=2e-3, weight_decay=0.05)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=min(60, steps))
    # whole captions at once, so that every image has its positives in the batch
    captions_at_once = batch_size // IMAGES_PER_CAPTION

    def step(index: int) -> dict[str, torch.Tensor]:
        rng = stream_rng(seed, Stream.SYNCLR, index)
        rows = rng.integers(0, len(images), captions_at_once)
        features = tower(standardize(change_view(images[rows].flatten(0, 1), rng), size=SIDE))
        owners = torch.from_numpy(rows).repeat_interleave(IMAGES_PER_CAPTION)
        contrast = multi_positive_loss(project(features), owners, temperature=TEMPERATURE)
        copied = copying_loss(features, targets[rows].flatten(0, 1))
        return {"loss": contrast + copied, "contrast": contrast, "copying": copied}

    facts = {"steps": str(steps), "seed": str(seed), "captions": str(len(images))}
    checkpoint = Checkpoint(work / "synclr.safetensors", facts, every=200)
    run_training(step, optimizer, schedule, name="synclr", steps=steps, checkpoint=checkpoint)
    return tower.eval()


def multi_positive_loss(features: torch.Tensor, owners: torch.Tensor, *, temperature: float) -> torch.Tensor:
    """Returns the cross-entropy between which images are alike and which share a caption (SynCLR, equation 3).

    Args:
        features: [B, D], any norm.
        owners: The caption of each image, int64 [B]; each occurs at least twice.
        temperature: Divides the cosines.
    """
    features = F.normalize(features.float(), dim=-1)
    itself = torch.eye(len(features), dtype=torch.bool)
    logits = (features @ features.T / temperature).masked_fill(itself, float("-inf"))
    shared = ((owners[:, None] == owners) & ~itself).float()
    likelihood = logits.log_softmax(dim=-1).masked_fill(itself, 0.0)
    return -(shared / shared.sum(1, keepdim=True) * likelihood).sum(1).mean()


def change_view(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Returns uint8 images [N, 3, H, W] moved by up to 3 pixels and made lighter or darker by up to 15 %."""
    moved = torch.empty_like(images)
    padded = F.pad(images.float(), (3, 3, 3, 3), mode="replicate")
    height, width = images.shape[-2:]
    for row, (x, y) in enumerate(rng.integers(0, 7, (len(images), 2))):
        light = float(rng.uniform(0.85, 1.15))
        moved[row] = (padded[row, :, y : y + height, x : x + width] * light).clamp(0, 255).to(torch.uint8)
    return moved


def draw_generated_images(generator: ImageGenerator, *, caption_count: int, seed: int, work: Path) -> torch.Tensor:
    """Returns four generated images of each caption, uint8 [captions, 4, 3, 32, 32]; made once and kept.

    Raises:
        DamagedFileError: If kept images are not what was written.
    """
    path = work / f"synclr_pictures_{generator.revision[:12]}_{caption_count}_{seed}.safetensors"
    if not path.exists():
        rng, scans = stream_rng(seed, Stream.SYNCLR_CAPTIONS), load_scans("train")
        captions = [describe(sample_scene(rng, scans), rng)[0] for _ in range(caption_count)]
        prompts = [caption for caption in captions for _ in range(IMAGES_PER_CAPTION)]
        images = []
        for start in range(0, len(prompts), IMAGES_AT_ONCE):
            part = prompts[start : start + IMAGES_AT_ONCE]
            seeds = [seed * 1_000_003 + start + position for position in range(len(part))]
            images += [np.asarray(made.image) for made in generator.generate(part, seeds)]
            logger.info("synclr images: %d of %d", len(images), len(prompts))
        stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
        write_tensors(path, {"pictures": stacked.view(caption_count, IMAGES_PER_CAPTION, *stacked.shape[1:])})
    return read_tensors(path, remedy="Delete it; the images are made anew.")[0]["pictures"]


@dataclass(frozen=True)
class PackagedSynclr:
    """A trained tower.

    Attributes:
        tower: timm's model.
    """

    tower: "VisionTransformer"

    def save_pretrained(self, folder: Path) -> None:
        """Writes the published names (``visual.`` and timm's) as float16 safetensors, with a configuration."""
        import json

        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = {f"visual.{name}": value.half().contiguous() for name, value in self.tower.state_dict().items()}
        save_file(state, folder / "synclr.safetensors")
        config = {"architecture": ARCHITECTURE, "image_size": SIDE}
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
