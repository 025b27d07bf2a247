"""What the training scenes of a generator are called: four texts each, and what they give away."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.mini.pretraining.digit_reader import Reading, scene_targets
from gmail_kedro.mini.world.caption_grammar import describe, number_in_words, web_text
from gmail_kedro.mini.world.scenes import ScenePool

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROMPTS_PER_SCENE = 4


@dataclass(frozen=True)
class Prompts:
    """Three captions and one web text for each of N scenes.

    Attributes:
        texts: The texts, scene by scene, 4 N of them.
        names_number: Whether the text says which number it is, bool [N, 4].
        truth: The number of every scene.
    """

    texts: list[str]
    names_number: torch.Tensor
    truth: Reading

    def tokenize(self, tokenizer: "PreTrainedTokenizerBase", *, length: int) -> torch.Tensor:
        """Returns token ids [N, 4, length], padded and cut as diffusers' pipelines do."""
        encoded = tokenizer(self.texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return encoded.input_ids.view(*self.names_number.shape, length)


def draw_prompts(pool: ScenePool, *, seed: int) -> Prompts:
    """Returns three captions and one web text for every scene."""
    rng = stream_rng(seed, Stream.GENERATOR_PROMPTS)
    texts, names = [], []
    for scene in pool.scenes:
        for text in (*describe(scene, rng)[: PROMPTS_PER_SCENE - 1], web_text(scene, rng)):
            texts.append(text)
            names.append(scene.number in text or number_in_words(scene.digits) in text)
    return Prompts(texts, torch.tensor(names).view(-1, PROMPTS_PER_SCENE), scene_targets(pool.scenes))
