"""Questions with images: about drawn scenes for measuring, and about captions for training.

A generated image shows what its caption says and, beyond that, whatever the generator chose. So a caption is asked
only for what it states.
"""

import re

import numpy as np

from gmail_kedro.engine.batches import Stream, stream_rng
from gmail_kedro.interfaces import Question
from gmail_kedro.mini.world.caption_grammar import PATTERN_WORDS, POSITION_PHRASES, SIZE_WORDS, TEENS, TENS, UNITS
from gmail_kedro.mini.world.scanned_digits import load_scans
from gmail_kedro.mini.world.scene_questions import Question as SceneQuestion
from gmail_kedro.mini.world.scene_questions import ask
from gmail_kedro.mini.world.scenes import INKS, PAPERS, PATTERNS, Scene, draw_pool
from gmail_kedro.mini.world.world_files import encode_jpeg
from gmail_kedro.models.vision_language.prompts import LETTERS, mmmu_prompt, right_answer, scienceqa_prompt

KINDS = ("choices", "open")
NEEDS = {
    "number": {"digits"},
    "ink": {"ink"},
    "paper": {"paper"},
    "size": {"digits", "size"},
    "position": {"position"},
    "pattern": {"pattern"},
    "comparison": {"digits"},
    "sum": {"digits"},
}


def draw_questions(split: str, *, kind: str, count: int, seed: int) -> list[Question]:
    """Returns questions about new scenes, one a scene, every topic about equally often.

    Args:
        split: Whose handwriting the scenes show: ``train``, ``val`` or ``test``.
        kind: ``choices`` for four options (as ScienceQA), ``open`` for a short answer (as MMMU's open questions).
        count: Number of questions.
        seed: Seeds scenes and questions; another kind asks about other scenes.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"The kind of questions must be one of {list(KINDS)}. Got {kind!r} instead.")
    is_open = kind == "open"
    # far from the seeds that training scenes are drawn with, and other scenes for each kind
    pool = draw_pool(load_scans(split), count=count, seed=seed + 7000 + int(is_open))
    rng = stream_rng(seed, Stream.QUESTIONS, int(is_open))
    questions = []
    for index, (scene, pixels) in enumerate(zip(pool.scenes, pool.pixels, strict=True)):
        asked = ask(scene, rng)
        chosen = asked[int(rng.integers(len(asked)))]
        questions.append(
            pose(chosen, question_id=f"{split}-{kind}-{index}", image=encode_jpeg(pixels), is_open=is_open)
        )
    return questions


def pose(question: SceneQuestion, *, question_id: str, image: bytes | None, is_open: bool) -> Question:
    """Returns a question about a scene as benchmarks hold it.

    Args:
        question: The question with its choices.
        question_id: Its id.
        image: The encoded image.
        is_open: Whether the choices are left out.
    """
    return Question(
        question_id=question_id,
        image=image,
        text=question.question,
        options=() if is_open else question.choices,
        answers=(question.answer if is_open else LETTERS[question.answer_index],),
        context="",
        subject=question.topic,
    )


def phrase(question: SceneQuestion, rng: np.random.Generator) -> tuple[str, str]:
    """Returns a question in the benchmarks' words, as ScienceQA, as MMMU or as an open one of MMMU, and its answer."""
    style = int(rng.integers(3))
    posed = pose(question, question_id="", image=None, is_open=style == 2)
    return (scienceqa_prompt(posed) if style == 0 else mmmu_prompt(posed)), right_answer(posed)


def ask_about_caption(caption: str, rng: np.random.Generator, *, count: int) -> list[tuple[str, str]]:
    """Returns at most so many questions that a caption answers, in the benchmarks' words, with their answers.

    Args:
        caption: One of ``describe``.
        rng: Source of every choice.
        count: Most questions.
    """
    questions = answered_by(caption, rng)
    chosen = rng.permutation(len(questions))[:count]
    return [phrase(questions[index], rng) for index in chosen]


def answered_by(caption: str, rng: np.random.Generator) -> list[SceneQuestion]:
    """Returns the questions about a scene whose answer its caption states.

    Args:
        caption: One of ``describe``.
        rng: Source of the wrong choices.
    """
    facts = read_caption(caption)
    digits = facts.get("digits", "0")
    scene = Scene(
        digits=tuple(int(digit) for digit in digits),
        scan_ids=(0,) * len(digits),
        ink=facts.get("ink", "black"),
        paper=facts.get("paper", "white"),
        pattern=facts.get("pattern", PATTERNS[0]),
        size=facts.get("size", "small"),
        position=facts.get("position", "middle"),
        seed=0,
    )
    return [question for question in ask(scene, rng) if NEEDS[question.topic] <= facts.keys()]


def read_caption(caption: str) -> dict[str, str]:
    """Returns the facts that a caption of ``describe`` states: any of digits, ink, paper, pattern, size, position."""
    text = f" {re.sub(r'[^a-z0-9 ]', ' ', caption.lower())} "
    facts = {"digits": _read_number(text)}
    facts["ink"] = next((ink for ink in INKS if f" {ink} " in text), "")
    facts["paper"] = next((paper for paper in PAPERS if f" {paper} " in text), "")
    for name, phrases in (("pattern", PATTERN_WORDS), ("size", SIZE_WORDS), ("position", POSITION_PHRASES)):
        facts[name] = next(
            (value for value, words in phrases.items() if any(f" {word} " in text for word in words)), ""
        )
    return {name: value for name, value in facts.items() if value}


def _read_number(text: str) -> str:
    """Returns the number as digits, from digits or from words; empty where none is said."""
    if found := re.search(r" (\d{1,2}) ", text):
        return found[1]
    named = [f"zero {unit}" for unit in UNITS]
    words = {name: f"0{unit}" for unit, name in enumerate(named)}
    for tens, name in enumerate(TENS):
        words |= {f"{name} {UNITS[unit]}" if unit else name: f"{tens}{unit}" for unit in range(10) if name}
    words |= {name: f"1{unit}" for unit, name in enumerate(TEENS)}
    phrase = max((name for name in words if f" {name} " in text), key=len, default="")
    if phrase:
        return words[phrase]
    # "one digit written twice" names no number
    rest = text.replace(" one digit written twice ", " ")
    return next((str(unit) for unit, name in enumerate(UNITS) if f" {name} " in rest), "")
