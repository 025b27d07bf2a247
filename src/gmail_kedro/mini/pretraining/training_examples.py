"""What the mini CLIP teaches the other mini encoders: training scenes, its embeddings, and the loss to copy them."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import StepFunction
from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.interfaces import ImageTextEncoder
from gmail_kedro.mini.pretraining.reading_heads import digits_on_patches, scene_facts
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import Scene, draw_pool

CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PATCH = 4
COPYING_SCALE = 20.0


@dataclass(frozen=True)
class TrainingExamples:
    """Training scenes and what is known about them.

    Attributes:
        scenes: The facts, N of them.
        images: uint8 of shape [N, 3, 32, 32].
        targets: The teacher's unit image embeddings, float32 [N, D].
        facts: Class of each fact, int64 [N, 7].
        patches: Digit on each patch, int64 [N, 64].
    """

    scenes: list[Scene]
    images: torch.Tensor
    targets: torch.Tensor
    facts: torch.Tensor
    patches: torch.Tensor


@dataclass(frozen=True)
class Training:
    """One stage of training.

    Attributes:
        steps: Optimizer steps.
        batch_size: Pairs a step.
        seed: Seeds texts and batches.
        checkpoint: Where the training state is kept.
    """

    steps: int
    batch_size: int
    seed: int
    checkpoint: Checkpoint

    def run(self, step: StepFunction, optimizer: Optimizer, schedule: LambdaLR, *, name: str) -> None:
        """Runs the stage, or what is left of it."""
        run_training(step, optimizer, schedule, name=name, steps=self.steps, every=50, checkpoint=self.checkpoint)


def draw_examples(teacher: ImageTextEncoder, *, scene_count: int, seed: int) -> TrainingExamples:
    """Draws training scenes and embeds them with the teacher."""
    scans = load_scans("train")
    pool = draw_pool(scans, count=scene_count, seed=seed + 21)
    images = torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)
    return TrainingExamples(
        scenes=pool.scenes,
        images=images,
        targets=embed_pixels(teacher, images),
        facts=scene_facts(pool.scenes),
        patches=digits_on_patches(pool.scenes, scans, patch=PATCH),
    )


def embed_pixels(teacher: ImageTextEncoder, images: torch.Tensor) -> torch.Tensor:
    """Returns the teacher's unit embeddings of uint8 pixels [N, 3, 32, 32], float32 [N, D]."""
    from torchvision.transforms.functional import to_pil_image

    parts = []
    with torch.no_grad(), fast_arithmetic(torch.device("cpu"), precision="auto"):
        for part in images.split(250):
            pixels = torch.stack([teacher.preprocess(to_pil_image(image)) for image in part])
            parts.append(teacher.encode_image(pixels).float())
    return F.normalize(torch.cat(parts), dim=-1)


def narrow_targets(targets: torch.Tensor, width: int) -> torch.Tensor:
    """Returns unit embeddings [N, D] in their ``width`` strongest directions, with nearly the same cosines."""
    directions = torch.linalg.eigh(targets.T @ targets / len(targets)).eigenvectors[:, -width:]
    return F.normalize(targets @ directions, dim=-1)


def copying_loss(embeddings: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Returns how far embeddings are from the teacher's: by cosine, and by which one they are taken for in the batch.

    Args:
        embeddings: The student's, [B, D], any norm.
        targets: The teacher's unit embeddings, [B, D].
    """
    cosines = F.normalize(embeddings.float(), dim=-1) @ targets.T
    return 4 * (1 - cosines.diagonal()).mean() + F.cross_entropy(COPYING_SCALE * cosines, torch.arange(len(targets)))


def matching_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, smoothing: float = 0.0
) -> torch.Tensor:
    """Returns CLIP's symmetric cross-entropy between images [B, D] and texts [B, D], normalised here.

    Args:
        images: Image embeddings.
        texts: Text embeddings; row i describes image i.
        scale: What a cosine is multiplied by.
        smoothing: Label smoothing, in [0, 1).
    """
    logits = scale * F.normalize(images.float(), dim=-1) @ F.normalize(texts.float(), dim=-1).T
    target = torch.arange(len(images))
    both = (F.cross_entropy(side, target, label_smoothing=smoothing) for side in (logits, logits.T))
    return torch.stack(list(both)).mean()


def widen_start(trunk: torch.nn.Module) -> None:
    """Draws the linear weights of a narrow transformer anew, in place, with variance one over their width.

    timm draws them for wide towers (deviation 0.02); a tower of width 64 would then hardly attend to anything at first.
    """
    for module in trunk.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)


def standardize(
    images: torch.Tensor,
    *,
    size: int = 32,
    mean: tuple[float, ...] = CLIP_MEAN,
    deviation: tuple[float, ...] = CLIP_DEVIATION,
) -> torch.Tensor:
    """Maps uint8 pixels [N, 3, 32, 32] to a tower's input [N, 3, size, size], resized as its preprocessing would."""
    pixels = images.float() / 255
    if size != images.shape[-1]:
        pixels = F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True).clamp(0, 1)
    centre, width = (torch.tensor(values).view(1, 3, 1, 1) for values in (mean, deviation))
    return (pixels - centre) / width
