"""Trains the mini CLIP vision tower in transformers' format: what LLaVA takes, in the mini CLIP's embedding space."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.interfaces import ImageTextEncoder
from gmail_kedro.mini.pretraining.reading_heads import ReadingHeads
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.pretraining.training_examples import copying_loss, draw_examples, standardize
from gmail_kedro.mini.world.scenes import IMAGE_SIZE
from gmail_kedro.models.weight_sources import mute_transformers

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection

READ_LAYER = -2  # the layer that LLaVA takes its patches from, so it must show what they show


def build_clip_vision(embed_dim: int) -> "CLIPVisionModelWithProjection":
    """Returns an untrained tower: 4 layers of width 96 on 4-pixel patches, projected to ``embed_dim``."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=96,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=3,
        image_size=IMAGE_SIZE,
        patch_size=4,
        projection_dim=embed_dim,
        hidden_act="quick_gelu",
        initializer_factor=1.0,
    )
    return CLIPVisionModelWithProjection(config)


def pretrain_clip_vision(
    teacher: ImageTextEncoder, *, steps: int, scene_count: int, batch_size: int, seed: int, work: Path
) -> "CLIPVisionModelWithProjection":
    """Returns a tower that copies the teacher's image embeddings and reads digits off its next-to-last layer."""
    torch.manual_seed(seed)
    examples = draw_examples(teacher, scene_count=scene_count, seed=seed)
    model = build_clip_vision(teacher.embed_dim).train()
    reading = ReadingHeads(teacher.embed_dim, model.config.hidden_size)
    optimizer = build_adamw([*model.parameters(), *reading.parameters()], learning_rate=1.5e-3, weight_decay=0.05)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=min(100, steps))

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = stream_rng(seed, Stream.CLIP_VISION, index).integers(0, len(examples.images), batch_size)
        seen = model.vision_model(standardize(examples.images[rows]), output_hidden_states=True)
        embedding = model.visual_projection(seen.pooler_output)
        copied = copying_loss(embedding, examples.targets[rows])
        read = reading.loss(
            embedding, seen.hidden_states[READ_LAYER][:, 1:], examples.facts[rows], examples.patches[rows]
        )
        return {"loss": copied + read, "copying": copied, "reading": read}

    facts = {"steps": str(steps), "seed": str(seed), "scenes": str(scene_count)}
    checkpoint = Checkpoint(work / "clip_vision.safetensors", facts, every=200)
    run_training(step, optimizer, schedule, name="clip vision", steps=steps, checkpoint=checkpoint)
    return model.eval()


@dataclass(frozen=True)
class PackagedClipVision:
    """A trained tower with its preprocessing.

    Attributes:
        model: The tower with its projection.
    """

    model: "CLIPVisionModelWithProjection"

    def save_pretrained(self, folder: Path) -> None:
        """Writes transformers' layout: config, float16 safetensors and ``preprocessor_config.json``."""
        from transformers import CLIPImageProcessor

        side = self.model.config.image_size
        self.model.half().save_pretrained(folder)
        CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(
            folder
        )


def load_vision_tower(folder: Path) -> "CLIPVisionModelWithProjection":
    """Returns the tower stored in a folder, float32."""
    from transformers import CLIPVisionModelWithProjection

    mute_transformers()
    return CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32, trust_remote_code=False)
