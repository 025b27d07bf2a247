"""A digit reader: a small CNN that reads number and ink off a scene, to judge what a generator drew.

It is trained on real training handwriting only and is never part of the method.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import INKS, Scene, draw_pool

NO_DIGIT = 10
WEIGHTS_FILE, CONFIG_FILE = "reader.safetensors", "config.json"


@dataclass(frozen=True)
class Reading:
    """What the reader saw on N images.

    Attributes:
        first: First digit of each, int64 [N].
        second: Second digit, or 10 where there is none, int64 [N].
        ink: Index of the ink in ``INKS``, int64 [N].
    """

    first: torch.Tensor
    second: torch.Tensor
    ink: torch.Tensor

    def number_is_right(self, scenes: list[Scene]) -> torch.Tensor:
        """Says for each scene whether every digit was read as it should be, bool [N]."""
        truth = scene_targets(scenes)
        return (self.first == truth.first) & (self.second == truth.second)

    def ink_is_right(self, scenes: list[Scene]) -> torch.Tensor:
        """Says for each scene whether the ink was read as it should be, bool [N]."""
        return self.ink == scene_targets(scenes).ink


class DigitReader(torch.nn.Module):
    """Three convolutional stages and one linear head a fact; input uint8 [N, 3, 32, 32]."""

    def __init__(self) -> None:
        super().__init__()
        stages = []
        for inner, outer in ((3, 32), (32, 64), (64, 96)):
            stages += [
                torch.nn.Conv2d(inner, outer, 3, padding=1, bias=False),
                torch.nn.BatchNorm2d(outer),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
            ]
        self.stages = torch.nn.Sequential(*stages, torch.nn.Conv2d(96, 128, 3, padding=1), torch.nn.ReLU())
        self.squeeze = torch.nn.Linear(128 * 16, 128)
        self.heads = torch.nn.ModuleList([torch.nn.Linear(128, size) for size in (10, 11, len(INKS))])

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Returns the logits of first digit [N, 10], second digit [N, 11] and ink [N, 6]."""
        features = self.stages(images.float() / 127.5 - 1).flatten(1)
        features = torch.relu(self.squeeze(F.dropout(features, 0.3, self.training)))
        return [head(features) for head in self.heads]

    @torch.no_grad()
    def read(self, images: torch.Tensor) -> Reading:
        """Reads uint8 images [N, 3, 32, 32]."""
        parts = [[logits.argmax(1) for logits in self(part)] for part in images.split(500)]
        return Reading(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def save_pretrained(self, folder: Path) -> None:
        """Writes float16 safetensors and a config."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        state = {
            name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in self.state_dict().items()
        }
        save_file(state, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps({"inks": list(INKS), "image_size": 32}, indent=2) + "\n")


def scene_targets(scenes: list[Scene]) -> Reading:
    """Returns the truth about scenes in the reader's terms."""
    inks = list(INKS)
    return Reading(
        first=torch.tensor([scene.digits[0] for scene in scenes]),
        second=torch.tensor([scene.digits[1] if len(scene.digits) == 2 else NO_DIGIT for scene in scenes]),
        ink=torch.tensor([inks.index(scene.ink) for scene in scenes]),
    )


def train_reader(*, steps: int, scene_count: int, batch_size: int, seed: int) -> DigitReader:
    """Returns a reader trained on real training handwriting."""
    torch.manual_seed(seed)
    pool = draw_pool(load_scans("train"), count=scene_count, seed=seed + 9)
    images = torch.from_numpy(pool.pixels).permute(0, 3, 1, 2)
    truth = scene_targets(pool.scenes)
    reader = DigitReader().train()
    optimizer = build_adamw(reader.parameters(), learning_rate=2e-3, weight_decay=0.05)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=50)

    def step(index: int) -> dict[str, torch.Tensor]:
        rows = stream_rng(seed, Stream.DIGIT_READER, index).integers(0, len(images), batch_size)
        logits = reader(images[rows])
        targets = (truth.first[rows], truth.second[rows], truth.ink[rows])
        terms = [F.cross_entropy(a.float(), b) for a, b in zip(logits, targets, strict=True)]
        return {"loss": torch.stack(terms).sum()}

    run_training(step, optimizer, schedule, name="digit reader", steps=steps, clip_norm=5.0)
    return reader.eval()


def load_reader(folder: Path) -> DigitReader:
    """Returns a stored reader in eval mode."""
    from safetensors.torch import load_file

    reader = DigitReader()
    reader.load_state_dict({name: tensor.float() for name, tensor in load_file(folder / WEIGHTS_FILE).items()})
    return reader.eval()
