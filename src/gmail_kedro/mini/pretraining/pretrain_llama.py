"""Trains the mini language models, LLaMA-3's layout and LLaMA-2's, on conversations about scenes drawn in words."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.engine.checkpoint import Checkpoint
from gmail_kedro.engine.loop import build_adamw, build_schedule
from gmail_kedro.mini.pretraining.dialogues import draw_dialogue, draw_in_words
from gmail_kedro.mini.pretraining.run_training import run_training
from gmail_kedro.mini.world.caption_grammar import describe
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scenes import sample_scene
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX, Chat, Conversation, Turn, collate

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

LLAMA_3_THETA, LLAMA_2_THETA = 500_000.0, 10_000.0
MAX_POSITIONS = 512
TURNS = 3
PLAIN_FRACTION = 0.15
NO_IMAGE_TOKEN = -1


def build_llama_3(tokenizer: "PreTrainedTokenizerBase") -> "LlamaForCausalLM":
    """Returns an untrained model in LLaMA-3's layout: grouped-query attention, rotary base 500,000."""
    return _build(tokenizer, hidden_size=96, heads=6, key_value_heads=2, intermediate_size=128, theta=LLAMA_3_THETA)


def build_vicuna(tokenizer: "PreTrainedTokenizerBase") -> "LlamaForCausalLM":
    """Returns an untrained model in LLaMA-2's layout, Vicuna's: full attention, rotary base 10,000."""
    return _build(tokenizer, hidden_size=80, heads=5, key_value_heads=5, intermediate_size=144, theta=LLAMA_2_THETA)


def pretrain_language(
    model: "LlamaForCausalLM", chat: Chat, *, steps: int, batch_size: int, seed: int, checkpoint: Checkpoint
) -> "LlamaForCausalLM":
    """Trains a language model, in place, on captions and on conversations about drawings in words."""
    scans = load_scans("train")

    def draw(rng: np.random.Generator) -> Conversation:
        scene = sample_scene(rng, scans)
        if rng.random() < PLAIN_FRACTION:
            return _plain_text(chat, describe(scene, rng)[0])
        first, *others = draw_dialogue(scene, rng, turn_count=TURNS)
        drawing = draw_in_words(scene, scans, rng)
        return chat.encode([Turn(f"{drawing}\n{first.prompt}", first.answer), *others], with_image=False)

    def loss_of(rng: np.random.Generator) -> torch.Tensor:
        texts = [draw(rng) for _ in range(batch_size)]
        batch = collate(texts, image_token=NO_IMAGE_TOKEN, patch_count=1, pad=chat.end, side="right")
        # Padding is on the right, where causal attention does not see it: no mask.
        hidden = model.model(input_ids=batch.ids).last_hidden_state[:, :-1]
        learnt = batch.labels[:, 1:] != IGNORE_INDEX
        return F.cross_entropy(model.lm_head(hidden[learnt]).float(), batch.labels[:, 1:][learnt])

    run_steps(
        loss_of,
        list(model.train().parameters()),
        steps=steps,
        seed=seed,
        rate=2e-3,
        checkpoint=checkpoint,
        name="llama",
    )
    return model.eval()


def run_steps(
    loss_of: Callable[[np.random.Generator], torch.Tensor],
    parameters: list[torch.nn.Parameter],
    *,
    steps: int,
    seed: int,
    rate: float,
    checkpoint: Checkpoint,
    name: str,
) -> None:
    """Trains for a number of steps, each with a generator of its own, or what is left of them."""
    optimizer = build_adamw(parameters, learning_rate=rate, weight_decay=0.01)
    schedule = build_schedule(optimizer, kind="cosine", steps=steps, warmup_steps=min(50, steps))
    run_training(
        lambda index: {"loss": loss_of(stream_rng(seed, Stream.LLAMA, index))},
        optimizer,
        schedule,
        name=name,
        steps=steps,
        every=25,
        checkpoint=checkpoint,
    )


@dataclass(frozen=True)
class PackagedLlama:
    """A trained language model with its tokenizer.

    Attributes:
        model: In LLaMA's layout.
        tokenizer: Goes into the same folder.
    """

    model: "LlamaForCausalLM"
    tokenizer: "PreTrainedTokenizerBase"

    def save_pretrained(self, folder: Path) -> None:
        """Writes transformers' layout: configuration, float16 safetensors, tokenizer and chat template."""
        self.model.half().save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def _plain_text(chat: Chat, text: str) -> Conversation:
    """Returns a text that is learnt as a whole, as it would stand on the web."""
    ids = [*chat.encode_text(text), chat.end_tokens[0]]
    return Conversation(tuple(ids), (IGNORE_INDEX, *ids[1:]))


def _build(
    tokenizer: Any, *, hidden_size: int, heads: int, key_value_heads: int, intermediate_size: int, theta: float
) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=4,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        intermediate_size=intermediate_size,
        max_position_embeddings=MAX_POSITIONS,
        rope_parameters={"rope_type": "default", "rope_theta": theta},
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=hidden_size**-0.5,
    )
    return LlamaForCausalLM(config)
