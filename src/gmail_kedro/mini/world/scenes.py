"""Scenes of the mini world: what is on the page, and how the page is drawn.

A scene is one handwritten number (one or two digits) on a sheet of paper. ``sample_scene`` draws the
facts, ``render_scene`` the pixels. Every fact can be read off the pixels, so captions, questions and
labels made from the facts are true.
"""

from dataclasses import dataclass

import numpy as np

from gmail_kedro.mini.world.scanned_digits import Scans

IMAGE_SIZE = 32
INKS = {
    "black": (0.08, 0.08, 0.10),
    "blue": (0.10, 0.22, 0.78),
    "red": (0.82, 0.10, 0.12),
    "green": (0.04, 0.48, 0.16),
    "purple": (0.50, 0.12, 0.62),
    "orange": (0.93, 0.42, 0.04),
}
PAPERS = {
    "white": (0.97, 0.96, 0.94),
    "yellow": (0.99, 0.92, 0.58),
    "pink": (0.99, 0.78, 0.84),
    "gray": (0.74, 0.75, 0.76),
}
PATTERNS = ("plain", "lined", "squared")
SIZES = ("small", "large")
SINGLE_POSITIONS = ("middle", "left", "right", "top", "bottom")
PAIR_POSITIONS = ("middle", "top", "bottom")
DIGIT_PIXELS = {(1, "small"): 13, (1, "large"): 18, (2, "small"): 12, (2, "large"): 15}
LINE_SPACING = 8


@dataclass(frozen=True)
class Scene:
    """The facts of one scene.

    Attributes:
        digits: One or two digit values, left to right.
        scan_ids: The scan that draws each digit, as positions in its split's ``Scans``.
        ink: A key of ``INKS``.
        paper: A key of ``PAPERS``.
        pattern: One of ``PATTERNS``.
        size: One of ``SIZES``.
        position: Where the number stands on the page.
        seed: Seeds everything that is noise: tilt, jitter, light, grain.
    """

    digits: tuple[int, ...]
    scan_ids: tuple[int, ...]
    ink: str
    paper: str
    pattern: str
    size: str
    position: str
    seed: int

    @property
    def number(self) -> str:
        """The number as written, such as ``"42"``."""
        return "".join(str(digit) for digit in self.digits)

    @property
    def relation(self) -> str:
        """How a second digit compares with the first: ``rising``, ``falling``, ``double``, or ``single``."""
        if len(self.digits) == 1:
            return "single"
        first, second = self.digits
        return "double" if first == second else "rising" if first < second else "falling"


@dataclass(frozen=True)
class SceneMix:
    """How often scenes show what; shares add up to 1.

    Attributes:
        inks: Share of each of ``INKS``; None for equal shares.
        papers: Share of each of ``PAPERS``; None for equal shares.
        patterns: Share of each of ``PATTERNS``.
        sizes: Share of each of ``SIZES``; None for equal shares.
    """

    inks: tuple[float, ...] | None = None
    papers: tuple[float, ...] | None = None
    patterns: tuple[float, ...] = (0.5, 0.25, 0.25)
    sizes: tuple[float, ...] | None = None


USUAL_MIX = SceneMix()


def sample_scene(
    rng: np.random.Generator, scans: Scans, *, pair_fraction: float = 0.4, mix: SceneMix = USUAL_MIX
) -> Scene:
    """Draws the facts of one scene.

    Args:
        rng: Source of every choice.
        scans: The handwriting to choose from.
        pair_fraction: Share of scenes that show two digits, in [0, 1].
        mix: How often scenes show what else.
    """
    count = 2 if rng.random() < pair_fraction else 1
    digits = tuple(int(digit) for digit in rng.integers(0, 10, size=count))
    positions = SINGLE_POSITIONS if count == 1 else PAIR_POSITIONS
    return Scene(
        digits=digits,
        scan_ids=tuple(int(rng.choice(scans.by_value[digit])) for digit in digits),
        ink=str(rng.choice(list(INKS), p=mix.inks)),
        paper=str(rng.choice(list(PAPERS), p=mix.papers)),
        pattern=str(rng.choice(PATTERNS, p=mix.patterns)),
        size=str(rng.choice(SIZES, p=mix.sizes)),
        position=str(rng.choice(positions)),
        seed=int(rng.integers(0, 2**31)),
    )


def render_scene(scene: Scene, scans: Scans) -> np.ndarray:
    """Returns the pixels of a scene: uint8 of shape [32, 32, 3]."""
    rng = np.random.default_rng(scene.seed)
    page = _draw_paper(scene, rng)
    coverage = _draw_digits(scene, scans, rng).max(axis=0)[..., None]
    ink = np.asarray(INKS[scene.ink], dtype=np.float32) + rng.normal(0, 0.02, 3)
    page = page * (1 - coverage) + ink * coverage
    page = page * _light(rng)[..., None] + rng.normal(0, rng.uniform(0.01, 0.03), page.shape)
    return np.clip(np.rint(page * 255), 0, 255).astype(np.uint8)


def map_digits(scene: Scene, scans: Scans, *, patch: int) -> np.ndarray:
    """Returns which digit stands on each patch, int64 [32 / patch, 32 / patch]; 10 where there is no ink.

    Args:
        scene: The facts.
        scans: The handwriting.
        patch: Side of a patch, in pixels.
    """
    rng = np.random.default_rng(scene.seed)
    _draw_paper(scene, rng)
    side = IMAGE_SIZE // patch
    ink = _draw_digits(scene, scans, rng).reshape(-1, side, patch, side, patch).mean(axis=(2, 4))
    digits = np.asarray(scene.digits, dtype=np.int64)[ink.argmax(axis=0)]
    return np.where(ink.max(axis=0) > 0.1, digits, 10)


def _draw_paper(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    colour = np.asarray(PAPERS[scene.paper], dtype=np.float32) + rng.normal(0, 0.015, 3)
    page = np.broadcast_to(colour, (IMAGE_SIZE, IMAGE_SIZE, 3)).astype(np.float32)
    line = colour * np.array([0.62, 0.70, 0.82], dtype=np.float32)
    if scene.pattern in ("lined", "squared"):
        page[rng.integers(LINE_SPACING) :: LINE_SPACING] = line
    if scene.pattern == "squared":
        page[:, rng.integers(LINE_SPACING) :: LINE_SPACING] = line
    return page


def _draw_digits(scene: Scene, scans: Scans, rng: np.random.Generator) -> np.ndarray:
    """Returns the ink coverage of each digit at its place: [digits, 32, 32] in [0, 1]."""
    from PIL import Image

    side = DIGIT_PIXELS[len(scene.digits), scene.size]
    left, top = _place(scene, side, rng)
    coverage = np.zeros((len(scene.digits), IMAGE_SIZE, IMAGE_SIZE), dtype=np.float32)
    for order, scan_id in enumerate(scene.scan_ids):
        stroke = Image.fromarray(scans.strokes[scan_id]).resize((side, side), Image.Resampling.BICUBIC)
        stroke = stroke.rotate(rng.uniform(-8, 8), resample=Image.Resampling.BICUBIC)
        x, y = left + order * side, int(np.clip(top + rng.integers(-1, 2), 0, IMAGE_SIZE - side))
        coverage[order, y : y + side, x : x + side] = np.clip(np.asarray(stroke), 0, 1) ** 0.8
    return coverage


def _place(scene: Scene, side: int, rng: np.random.Generator) -> tuple[int, int]:
    """Returns the left and top pixel of the number's box."""
    free_x, free_y = IMAGE_SIZE - side * len(scene.digits), IMAGE_SIZE - side
    x, y = free_x / 2, free_y / 2
    near, far = rng.uniform(0.0, 0.12), rng.uniform(0.88, 1.0)
    if scene.position in ("left", "right"):
        x = free_x * (near if scene.position == "left" else far)
    if scene.position in ("top", "bottom"):
        y = free_y * (near if scene.position == "top" else far)
    x, y = x + rng.uniform(-1, 1), y + rng.uniform(-1, 1)
    return int(np.clip(round(x), 0, free_x)), int(np.clip(round(y), 0, free_y))


def _light(rng: np.random.Generator) -> np.ndarray:
    """Returns an illumination gradient [32, 32] around 1."""
    angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.14)
    axis = np.linspace(-1, 1, IMAGE_SIZE, dtype=np.float32)
    return 1 + strength * (np.cos(angle) * axis[None, :] + np.sin(angle) * axis[:, None]) - strength / 2


@dataclass(frozen=True)
class ScenePool:
    """Many scenes drawn at once.

    Attributes:
        scenes: The facts, N of them.
        pixels: uint8 of shape [N, 32, 32, 3].
    """

    scenes: list[Scene]
    pixels: np.ndarray


def draw_pool(scans: Scans, *, count: int, seed: int, pair_fraction: float = 0.4) -> ScenePool:
    """Draws ``count`` scenes; the same seed gives the same bytes."""
    rng = np.random.default_rng(seed)
    scenes = [sample_scene(rng, scans, pair_fraction=pair_fraction) for _ in range(count)]
    return ScenePool(scenes=scenes, pixels=np.stack([render_scene(scene, scans) for scene in scenes]))
