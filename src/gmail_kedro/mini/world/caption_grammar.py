"""The grammar that describes a scene: human-style captions, web-style texts and long captions.

Three registers, as in the real corpora. ``describe`` writes what an annotator would (the COCO analogue),
``web_text`` what stands beside an image on the web (partial, noisy, other words; pre-training only) and
``describe_at_length`` several sentences (the ShareGPT4V analogue).
"""

from dataclasses import dataclass

import numpy as np

from gmail_kedro.mini.world.scenes import INKS, Scene

UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
SIZE_WORDS = {"small": ("small", "tiny", "little"), "large": ("large", "big", "tall")}
PATTERN_WORDS = {
    "plain": ("plain", "blank", "unlined"),
    "lined": ("lined", "ruled"),
    "squared": ("squared", "checked"),
}
POSITION_PHRASES = {
    "middle": ("in the middle", "in the center"),
    "left": ("on the left", "near the left edge"),
    "right": ("on the right", "near the right edge"),
    "top": ("at the top", "near the top edge"),
    "bottom": ("at the bottom", "near the bottom edge"),
}
RELATION_PHRASES = {
    "rising": ("the second digit is larger than the first", "its digits go up"),
    "falling": ("the second digit is smaller than the first", "its digits go down"),
    "double": ("both digits are the same", "one digit written twice"),
}
SHEETS = ("paper", "sheet", "page")
NOUNS = frozenset(
    [*(str(number) for number in range(100)), *(f"0{digit}" for digit in range(10)), *UNITS, *TEENS, *TENS[2:], *INKS]
    + ["number", "digit", "ink", *SHEETS]
)
CAPTION_COUNT = 5
WEB_WRONG_FRACTION = 0.05


@dataclass(frozen=True)
class Manner:
    """How often annotators say what; shares in [0, 1].

    Attributes:
        size: Of captions with the size.
        handwritten: Of captions that say ``handwritten``.
        ink_first: Of captions with the ink before the number.
        ink: Of captions with the ink anywhere; at least ``ink_first``.
        position: Of captions with the position.
        relation: Of captions of two digits that compare them.
        figures: Of numbers written in figures; the others are in words.
        number: Of captions with the number; at least 0.5.
        paper: Of captions with the colour of the paper.
    """

    size: float = 0.4
    handwritten: float = 0.25
    ink_first: float = 0.35
    ink: float = 0.85
    position: float = 0.45
    relation: float = 0.2
    figures: float = 0.75
    number: float = 0.9
    paper: float = 0.6


USUAL_MANNER = Manner()


def number_in_words(digits: tuple[int, ...]) -> str:
    """Returns the number in words, such as ``forty two``; a leading zero is read digit by digit."""
    if len(digits) == 1:
        return UNITS[digits[0]]
    tens, units = digits
    if tens == 0:
        return f"zero {UNITS[units]}"
    if tens == 1:
        return TEENS[units]
    return TENS[tens] if units == 0 else f"{TENS[tens]} {UNITS[units]}"


def describe(scene: Scene, rng: np.random.Generator, manner: Manner = USUAL_MANNER) -> list[str]:
    """Returns five different one-sentence captions of a scene, in an annotator's words."""
    captions: list[str] = []
    while len(captions) < CAPTION_COUNT:
        caption = _sentence(scene, rng, manner)
        if caption not in captions:
            captions.append(caption)
    return captions


def web_text(scene: Scene, rng: np.random.Generator, *, stranger: Scene | None = None) -> str:
    """Returns a partial, noisy text of the kind found beside an image on the web.

    Args:
        scene: What the image shows.
        rng: Source of every choice.
        stranger: Another scene; now and then the text describes that one instead, as on the web.
    """
    if stranger is not None and rng.random() < WEB_WRONG_FRACTION:
        scene = stranger
    words = []
    if rng.random() < 0.85:
        words.append(scene.number if rng.random() < 0.7 else number_in_words(scene.digits))
    if rng.random() < 0.6:
        words.append(scene.ink if rng.random() < 0.5 else f"{scene.ink} ink")
    if rng.random() < 0.4:
        words.append(f"{scene.paper} {_choose(rng, SHEETS)}")
    if rng.random() < (0.1 if scene.pattern == "plain" else 0.4):
        words.append(PATTERN_WORDS[scene.pattern][0])
    if rng.random() < 0.2:
        words.append(_choose(rng, SIZE_WORDS[scene.size]))
    if rng.random() < 0.2:
        words.append(scene.position)
    if rng.random() < 0.5:
        words.append(_choose(rng, ("handwritten", "scan", "digit", "number", "note", "handwriting", "photo")))
    rng.shuffle(words)
    return " ".join(words) if words else "scan"


def describe_at_length(scene: Scene, rng: np.random.Generator) -> str:
    """Returns several sentences that state every fact; a share runs beyond 77 tokens."""
    ink, paper = scene.ink, scene.paper
    sentences = [
        f"This picture shows {_article('handwritten')} handwritten number on {_article(paper)} {paper} "
        f"{_choose(rng, SHEETS)}.",
        f"The number is {number_in_words(scene.digits)}, written as {scene.number} in {ink} ink.",
        f"The writing is {_choose(rng, SIZE_WORDS[scene.size])} and stands "
        f"{_choose(rng, POSITION_PHRASES[scene.position])} of the {_choose(rng, SHEETS)}.",
        f"The paper is {_choose(rng, PATTERN_WORDS[scene.pattern])}.",
    ]
    if len(scene.digits) == 2:
        first, second = (UNITS[digit] for digit in scene.digits)
        sentences.append(f"The first digit is {first} and the second digit is {second}.")
        sentences.append(f"In this number {_choose(rng, RELATION_PHRASES[scene.relation])}.")
    else:
        sentences.append(f"There is one digit, {_article(UNITS[scene.digits[0]])} {UNITS[scene.digits[0]]}.")
    if rng.random() < 0.5:
        sentences.append("The light falls unevenly across the page and the scan shows some grain.")
        sentences.append(f"Nothing else is written in {ink} or in any other ink on this sheet.")
    return " ".join(sentences)


def shuffle_sentences(text: str, rng: np.random.Generator) -> str:
    """Returns the sentences of a long caption in another order, so that any fact may come late."""
    sentences = text.removesuffix(".").split(". ")
    rng.shuffle(sentences)
    return ". ".join(sentences) + "."


def _sentence(scene: Scene, rng: np.random.Generator, manner: Manner) -> str:
    """Returns one caption: a number phrase and some of ink, paper, position and relation, in varying order."""
    adjectives = []
    if rng.random() < manner.size:
        adjectives.append(_choose(rng, SIZE_WORDS[scene.size]))
    if rng.random() < manner.handwritten:
        adjectives.append("handwritten")
    ink_style = rng.random()
    if ink_style < manner.ink_first:
        adjectives.append(scene.ink)
    subject = _subject(scene, adjectives, rng, manner)
    tail = []
    if manner.ink_first <= ink_style < manner.ink:
        tail.append(_choose(rng, (f"in {scene.ink} ink", f"written in {scene.ink}")))
    if rng.random() < manner.position:
        tail.append(_choose(rng, POSITION_PHRASES[scene.position]))
    tail.append(_sheet(scene, rng, manner))
    if len(scene.digits) == 2 and rng.random() < manner.relation:
        tail.append(f"where {_choose(rng, RELATION_PHRASES[scene.relation])}")
    return f"{subject} {' '.join(part for part in tail if part)}".strip() + "."


def _subject(scene: Scene, adjectives: list[str], rng: np.random.Generator, manner: Manner) -> str:
    number = scene.number if rng.random() < manner.figures else number_in_words(scene.digits)
    noun = "digit" if len(scene.digits) == 1 else "number"
    form = rng.random()
    if form < 0.5:
        phrase = " ".join((*adjectives, number))
        return f"{_article(phrase)} {phrase}"
    if form < manner.number:
        return " ".join(("the", *adjectives, noun, number))
    phrase = " ".join((*adjectives, noun))
    return f"{_article(phrase)} {phrase}"


def _sheet(scene: Scene, rng: np.random.Generator, manner: Manner) -> str:
    colour = scene.paper if rng.random() < manner.paper else ""
    said = 0.25 if scene.pattern == "plain" else 0.6
    pattern = _choose(rng, PATTERN_WORDS[scene.pattern]) if rng.random() < said else ""
    phrase = " ".join(word for word in (colour, pattern) if word)
    if not phrase:
        return ""
    sheet = _choose(rng, SHEETS)
    return f"on {phrase} paper" if sheet == "paper" else f"on {_article(phrase)} {phrase} {sheet}"


def _article(phrase: str) -> str:
    """Returns ``a`` or ``an`` as the next word (or number read aloud) asks for."""
    word = phrase.split()[0]
    if word.isdigit():
        return "an" if word[0] == "8" or word in ("11", "18") else "a"
    return "an" if word[0] in "aeiou" and not word.startswith("one") else "a"


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
