"""Measures the mini LLaMA-3 and the mini LLaVA by their answers about scenes with unseen handwriting."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from gmail_kedro.hardware import fast_arithmetic
from gmail_kedro.images.decoding import decode_image
from gmail_kedro.interfaces import Question
from gmail_kedro.metrics.statistics import Interval, bootstrap_interval
from gmail_kedro.metrics.vqa import LETTERS, is_open_answer_right, parse_open, parse_scienceqa
from gmail_kedro.mini.pretraining.dialogues import draw_in_words
from gmail_kedro.mini.pretraining.measuring import CPU, RESAMPLES
from gmail_kedro.mini.pretraining.pretrain_llama import NO_IMAGE_TOKEN
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scene_questions import ask
from gmail_kedro.mini.world.scenes import sample_scene
from gmail_kedro.mini.world.visual_questions import draw_questions, phrase
from gmail_kedro.models.encoders.known_encoders import build_encoder
from gmail_kedro.models.vision_language.chat import IGNORE_INDEX, Conversation, Turn, build_chat, collate
from gmail_kedro.models.vision_language.known_vision_language_models import LlavaSettings, build_vision_language_model
from gmail_kedro.models.vision_language.language_models import build_language_model
from gmail_kedro.models.vision_language.prompts import mmmu_prompt, right_answer, scienceqa_prompt
from gmail_kedro.models.vision_language.vision_language_model import VisionFeatures

QUESTION_COUNT, BATCH, MAX_TOKENS = 300, 50, 24
SEED = 905


def measure_llama(folder: str) -> dict[str, Any]:
    """Returns how often the language model answers questions about drawings in words as the drawing says."""
    model, tokenizer = build_language_model("mini_llama", folder)
    chat = build_chat(tokenizer, None, chat_format="auto")
    rng, scans = np.random.default_rng(SEED), load_scans("test")
    right: dict[str, list[bool]] = {"choices": [], "open": []}
    for _ in range(QUESTION_COUNT // BATCH):
        turns, asked = [], []
        for _ in range(BATCH):
            scene = sample_scene(rng, scans)
            drawing = draw_in_words(scene, scans, rng)
            turns.append(Turn(*phrase(ask(scene, rng)[int(rng.integers(7))], rng)))
            ids = chat.encode_prompt(f"{drawing}\n{turns[-1].prompt}", with_image=False)
            asked.append(Conversation(tuple(ids), (IGNORE_INDEX,) * len(ids)))
        batch = collate(asked, image_token=NO_IMAGE_TOKEN, patch_count=1, pad=chat.end, side="left")
        with torch.no_grad():
            written = model.generate(
                input_ids=batch.ids,
                attention_mask=batch.mask,
                max_new_tokens=MAX_TOKENS,
                do_sample=False,
                eos_token_id=chat.end_tokens,
                pad_token_id=chat.end,
            )
        for turn, answer in zip(turns, chat.decode(written[:, batch.ids.shape[1] :]), strict=True):
            right["choices" if turn.answer in LETTERS else "open"].append(answer == turn.answer)
    return {f"test_{name}_right": _interval(values) for name, values in right.items()}


def measure_llava(folder: str) -> dict[str, Any]:
    """Returns the accuracy on 300 questions with four choices (guessing: 25) and on 300 open ones."""
    encoder = build_encoder("mini_clip_vision", None, device=CPU)
    settings = LlavaSettings(dtype="float32", vision_features=VisionFeatures(-2, "default"), chat_format="auto", seed=0)
    model = build_vision_language_model("mini_llava", folder, encoder=encoder, settings=settings, device=CPU)

    def answer(questions: Sequence[Question], prompts: Sequence[str]) -> list[str]:
        texts: list[str] = []
        for start in range(0, len(questions), BATCH):
            part = questions[start : start + BATCH]
            images = [decode_image(question.image or b"", name=question.question_id) for question in part]
            with torch.no_grad(), fast_arithmetic(CPU, precision="auto"):
                pixels = torch.stack([model.preprocess(image) for image in images])
                tokens = model.vision_features.select(model.vision_tower, pixels)
                texts += model.write(tokens, prompts[start : start + BATCH], max_tokens=MAX_TOKENS)
        return texts

    choices = draw_questions("test", kind="choices", count=QUESTION_COUNT, seed=SEED)
    letters = answer(choices, [scienceqa_prompt(question) for question in choices])
    chosen = [
        parse_scienceqa(text, 4) == right_answer(question) for text, question in zip(letters, choices, strict=True)
    ]
    unbounded = draw_questions("test", kind="open", count=QUESTION_COUNT, seed=SEED)
    words = answer(unbounded, [mmmu_prompt(question) for question in unbounded])
    said = [
        is_open_answer_right(parse_open(text), question.answers)
        for text, question in zip(words, unbounded, strict=True)
    ]
    return {"test_choices_right": _interval(chosen), "test_open_right": _interval(said)}


def _interval(right: Sequence[bool]) -> Interval:
    return bootstrap_interval(np.asarray(right, dtype=float) * 100, count=RESAMPLES, seed=0)
