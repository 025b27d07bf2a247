"""Trains the mini LLaVA: the mini CLIP vision tower, a projector and a language model in LLaVA-1.5's format."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.mini.pretraining.dialogues import draw_dialogue
from gmail_kedro.mini.pretraining.pretrain_llama import build_vicuna, run_steps
from gmail_kedro.mini.pretraining.training_examples import standardize
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import IMAGE_SIZE, draw_pool
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX, IMAGE, LLAVA_TEMPLATE, build_chat
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures, VisionLanguageModel

if TYPE_CHECKING:
    from transformers import CLIPVisionModelWithProjection, LlavaForConditionalGeneration, PreTrainedTokenizerBase

READ = VisionFeatures(-2, "default")
TURNS = 3
POOL_SEED = 23


def build_llava(
    tower: "CLIPVisionModelWithProjection", tokenizer: "PreTrainedTokenizerBase"
) -> "LlavaForConditionalGeneration":
    """Returns a LLaVA around a trained tower; projector and language model are untrained."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    language = build_vicuna(tokenizer)
    config = LlavaConfig(
        vision_config=tower.config,
        text_config=language.config,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(tower.config.image_size // tower.config.patch_size) ** 2,
        tie_word_embeddings=True,
    )
    config.vision_config._name_or_path = ""  # it would name a folder of this machine
    model = LlavaForConditionalGeneration(config)
    model.model.vision_tower.load_state_dict(tower.vision_model.state_dict())
    model.model.language_model.load_state_dict(language.model.state_dict())
    return model


def pretrain_llava(
    tower: "CLIPVisionModelWithProjection",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    steps: int,
    scene_count: int,
    batch_size: int,
    seed: int,
    work: Path,
) -> "LlavaForConditionalGeneration":
    """Returns a LLaVA that describes training scenes in the words of the web and answers questions about them.

    The tower stays as it is; projector and language model learn together, from nothing.
    """
    torch.manual_seed(seed)
    model = build_llava(tower, tokenizer)
    model.model.vision_tower.requires_grad_(False)
    chat = build_chat(tokenizer, LLAVA_TEMPLATE, chat_format="auto")
    pool = draw_pool(load_scans("train"), count=scene_count, seed=seed + POOL_SEED)
    with torch.no_grad():
        pixels = standardize(torch.from_numpy(pool.pixels).permute(0, 3, 1, 2))
        tokens = torch.cat([READ.select(model.model.vision_tower, part) for part in pixels.split(250)])
    student = VisionLanguageModel("mini_llava", model, chat, preprocess=_refuse_images, vision_features=READ)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        rows = rng.integers(0, scene_count, batch_size)
        talks = [draw_dialogue(pool.scenes[row], rng, turn_count=TURNS, register="web") for row in rows]
        batch = student.batch([chat.encode(talk, with_image=True) for talk in talks])
        return student.loss_sum(tokens[rows], batch) / (batch.labels != IGNORE_INDEX).sum()

    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    facts = {"steps": str(steps), "seed": str(seed), "scenes": str(scene_count), "batch_size": str(batch_size)}
    checkpoint = Checkpoint(work / "llava.safetensors", facts, every=100)
    model.train()
    run_steps(loss_of, learned, steps=steps, seed=seed, rate=2e-3, checkpoint=checkpoint, name="llava")
    return model.eval()


@dataclass(frozen=True)
class PackagedLlava:
    """A trained LLaVA with its processor.

    Attributes:
        model: The model.
        tokenizer: Its tokenizer.
    """

    model: "LlavaForConditionalGeneration"
    tokenizer: "PreTrainedTokenizerBase"

    def save_pretrained(self, folder: Path) -> None:
        """Writes transformers' layout: configuration, float16 safetensors and the processor's files."""
        from transformers import CLIPImageProcessor, LlavaProcessor

        processor = LlavaProcessor(
            image_processor=CLIPImageProcessor(
                size={"shortest_edge": IMAGE_SIZE}, crop_size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}
            ),
            tokenizer=self.tokenizer,
            patch_size=self.model.config.vision_config.patch_size,
            vision_feature_select_strategy=READ.vision_feature_select_strategy,
            num_additional_image_tokens=1,
            chat_template=LLAVA_TEMPLATE,
        )
        copy.deepcopy(self.model).half().save_pretrained(folder)
        processor.save_pretrained(folder)


def _refuse_images(image: Any) -> torch.Tensor:
    raise ValueError("In pre-training the images are standardized beforehand.")
