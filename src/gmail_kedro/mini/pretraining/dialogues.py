"""Conversations about scenes: what the mini language models learn from, with the image drawn in words.

A scene is drawn as four rows of four words, one for each 8-pixel patch: the digit or the ink where there is ink,
otherwise the paper. A language model that has answered questions about such drawings knows where in its context to
look; what a projector has to teach it is to take a patch for a word.
"""

import numpy as np

from gmail_kedro.mini.world.caption_grammar import describe, web_text
from gmail_kedro.mini.world.scanned_digits import Scans
from gmail_kedro.mini.world.scene_questions import ask
from gmail_kedro.mini.world.scenes import Scene, map_digits
from gmail_kedro.mini.world.visual_questions import phrase
from gmail_kedro.models.vision_language.chat import Turn
from gmail_kedro.models.vision_language.prompts import CAPTION_PROMPT

WEB_PROMPT = "What stands beside this picture?"
PATCH = 8
NO_INK = 10


def draw_dialogue(scene: Scene, rng: np.random.Generator, *, turn_count: int, register: str = "caption") -> list[Turn]:
    """Returns a conversation about a scene: a description and questions, in random order.

    Args:
        scene: The facts.
        rng: Source of every choice.
        turn_count: Number of exchanges, one of them the description.
        register: ``caption`` for an annotator's words, ``web`` for those of the web.
    """
    if register == "caption":
        described = Turn(CAPTION_PROMPT, describe(scene, rng)[0])
    else:
        described = Turn(WEB_PROMPT, web_text(scene, rng))
    questions = ask(scene, rng)
    chosen = rng.permutation(len(questions))[: turn_count - 1]
    turns = [described, *(Turn(*phrase(questions[index], rng)) for index in chosen)]
    return [turns[index] for index in rng.permutation(len(turns))]


def draw_in_words(scene: Scene, scans: Scans, rng: np.random.Generator) -> str:
    """Returns a scene as four lines of four words."""
    grid = map_digits(scene, scans, patch=PATCH)
    blank = [scene.paper, scene.pattern]

    def word(digit: int) -> str:
        if digit == NO_INK:
            return blank[int(rng.random() < 0.25)]
        return str(digit) if rng.random() < 0.7 else (scene.ink if rng.random() < 0.7 else scene.size)

    return "\n".join(" ".join(word(int(digit)) for digit in row) for row in grid)
