"""Caption metrics of the COCO evaluation (pycocoevalcap): BLEU, ROUGE-L, CIDEr-D, METEOR and SPICE.

BLEU and METEOR are no means over images: both add up counts over all images and make one number of the sums. What an
image contributes follows from the score without it (``jackknife_values``), so that intervals and paired tests can treat
these two as they treat means.

Everything is multiplied by 100. CIDEr takes its document frequencies from the evaluated references: never
compare its values between different sets of images. BLEU-1 to 4, ROUGE-L and CIDEr run everywhere; METEOR and the
``ptb`` tokenizer need Java; SPICE needs Java and CoreNLP 3.6.0. What cannot run is reported as such, never as zero.
"""

import contextlib
import io
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gmail_kedro.metrics.statistics import jackknife_values

Texts = dict[str, list[str]]
Outside = Callable[[Texts, Texts], tuple[float, np.ndarray]]
BLEU_ORDER = 4
TINY, SMALL = 1e-15, 1e-9  # what pycocoevalcap adds to counts, so that no matches give 0 and no words no error
INSTALL_JAVA = "Install a Java runtime (8 or newer) so that `java` is on the PATH"
SPICE_JARS = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
SILENT_TOKENS = frozenset("'`\"“”.?!,:;-–—…()[]{}")
CLITIC = r"(?:s|m|d|t|ll|re|ve)\b"
TOKEN = re.compile(
    rf"can(?=not\b)|\w+(?=n't\b)|n't\b|'{CLITIC}"  # can not, is n't, dog 's
    rf"|\d+(?:[.,:/]\d+)+"  # 3:30 and 1,000 stay whole
    rf"|\w+(?:[-/]\w+|'(?!{CLITIC})\w+)*"  # t-shirt and o'clock stay whole
    r"|[^\w\s]"
)


class MetricUnavailableError(RuntimeError):
    """A metric or tokenizer that cannot run on this machine; the message says why and what to do."""


@dataclass(frozen=True)
class CaptionResult:
    """Caption scores, with what they were measured on."""

    # `bleu_1` to `bleu_4`, `rouge_l`, `cider` and, where they ran, `meteor` and `spice`; x 100
    scores: dict[str, float]
    unavailable: dict[str, str]  # for each metric that did not run, the reason and the remedy
    # `cider`, `rouge_l` and `spice` of each image, x 100, of shape [N]; `bleu_1` to `bleu_4` and `meteor` as what each
    # image contributes. Their means are the scores
    per_image: dict[str, np.ndarray]
    image_ids: tuple[str, ...]  # the images, in the order of `per_image`
    tokenizer: str  # `simple` or `ptb`; scores of different tokenizers are not comparable
    tokens: dict[str, str]  # each image's prediction as it was compared, tokens joined by spaces
    reference_tokens: Texts  # its references likewise


def caption_scores(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    *,
    tokenizer: str,
    with_meteor: bool = True,
) -> CaptionResult:
    """Compares one predicted caption for each image with the image's reference captions.

    Args:
        predictions: The caption of each image; an empty one is allowed and scores 0.
        references: The reference captions of each image, for at least two images.
        tokenizer: ``ptb`` (the published one; needs Java) or ``simple`` (no Java; see ``tokenize_simple``).
        with_meteor: Whether to start METEOR; it takes several seconds and 2 GB.

    Raises:
        ValueError: If predictions and references are not of the same images, there are fewer than two images, a
            reference has no words, an image has no reference, or the tokenizer is unknown.
        TypeError: If an image's references are one string instead of a list of strings.
        MetricUnavailableError: If the ``ptb`` tokenizer is asked for and cannot run.
    """
    _check_captions(predictions, references)
    tokenized = truth, said = _tokenize(predictions, references, tokenizer)
    scores, per_image = _score_everywhere(*tokenized)
    unavailable = {} if with_meteor else {"meteor": "METEOR was not asked for: with_meteor is off."}
    outside: dict[str, Outside] = {"meteor": _meteor_score} if with_meteor else {}
    for metric, score_all in {**outside, "spice": _spice}.items():
        try:
            score, each = score_all(*tokenized)
            scores[metric], per_image[metric] = 100.0 * score, 100.0 * each
        except MetricUnavailableError as error:
            unavailable[metric] = str(error)
    tokens = {image: lines[0] for image, lines in said.items()}
    return CaptionResult(scores, unavailable, per_image, tuple(references), tokenizer, tokens, truth)


def tokenize_simple(text: str) -> list[str]:
    """Splits a caption into lower-case words without punctuation, close to the Penn Treebank tokenizer.

    On 10,000 captions of Flickr8k it differs from ``ptb`` in 7: abbreviations with dots (``mr.``), and brackets,
    which ``ptb`` turns into the words ``-lrb-`` and ``-rrb-``.

    Args:
        text: Any text; ``Two dogs' toys - isn't it?`` gives ``two dogs toys is n't it``.
    """
    return [token for token in TOKEN.findall(text.lower().replace("’", "'")) if token not in SILENT_TOKENS]


def _check_captions(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    if len(references) < 2:
        raise ValueError(
            f"Caption scores need at least 2 images: with one, every weight of CIDEr is 0. Got {len(references)}."
        )
    missing = [image for image in references if image not in predictions]
    extra = [image for image in predictions if image not in references]
    for kind, images in (("have no prediction", missing), ("have a prediction but no references", extra)):
        if images:
            raise ValueError(
                f"Predictions and references must be of the same images. {len(images)} {kind}: {images[:3]}."
            )
    for image, captions in references.items():
        if isinstance(captions, str):
            raise TypeError(f"The references of image {image!r} must be a list of captions. Got the text {captions!r}.")
        if not captions:
            raise ValueError(f"Every image must have at least one reference. Image {image!r} has none.")


def _tokenize(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], tokenizer: str
) -> tuple[Texts, Texts]:
    """Returns references and predictions as tokens joined by single spaces, images in the references' order."""
    tokenizers = {"simple": _tokenize_all_simple, "ptb": _tokenize_all_ptb}
    if tokenizer not in tokenizers:
        raise ValueError(f"The tokenizer must be one of {list(tokenizers)}. Got {tokenizer!r} instead.")
    keys = [(image, caption) for image, captions in references.items() for caption in captions]
    texts = [caption for _, caption in keys] + [predictions[image] for image in references]
    tokens = tokenizers[tokenizer](texts)
    truth: Texts = {image: [] for image in references}
    for (image, caption), line in zip(keys, tokens, strict=False):
        if not line:
            raise ValueError(f"A reference of image {image!r} has no words: {caption!r}. Take it out of the corpus.")
        truth[image].append(line)
    return truth, {image: [line] for image, line in zip(references, tokens[len(keys) :], strict=True)}


def _tokenize_all_simple(texts: Sequence[str]) -> list[str]:
    return [" ".join(tokenize_simple(text)) for text in texts]


def _tokenize_all_ptb(texts: Sequence[str]) -> list[str]:
    """Runs the Penn Treebank tokenizer of CoreNLP 3.4.1 once over all texts, as the COCO evaluation does."""
    from pycocoevalcap.tokenizer import ptbtokenizer

    _require_java("The ptb tokenizer", "or choose the tokenizer `simple`")
    lines = [" ".join(text.split()) for text in texts]
    jar = Path(ptbtokenizer.__file__).with_name(ptbtokenizer.STANFORD_CORENLP_3_4_1_JAR)
    command = ["java", "-Dfile.encoding=UTF-8", "-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer"]
    command += ["-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
    filled = "".join(f"{line}\n" for line in lines if line)
    done = subprocess.run(command, input=filled.encode(), capture_output=True, check=False)
    output = done.stdout.decode().split("\n")[:-1]
    if done.returncode or len(output) != sum(map(bool, lines)):
        raise MetricUnavailableError(
            f"The ptb tokenizer failed: exit status {done.returncode}, {len(output)} lines for {len(lines)} texts. "
            f"{done.stderr.decode(errors='replace')[-500:]}"
        )
    removed, tokenized = set(ptbtokenizer.PUNCTUATIONS), iter(output)
    words = [next(tokenized).split() if line else [] for line in lines]
    return [" ".join(word for word in line if word not in removed) for line in words]


def _score_everywhere(references: Texts, predictions: Texts) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Returns the scores and per-image scores, x 100, of the metrics that are plain Python."""
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    per_image = {
        metric: 100.0 * np.asarray(scorer.compute_score(references, predictions)[1], dtype=np.float64)
        for metric, scorer in {"rouge_l": Rouge(), "cider": Cider()}.items()
    }
    scores = {metric: float(values.mean()) for metric, values in per_image.items()}
    for order, (score, each) in enumerate(zip(*_bleu_scores(references, predictions), strict=True), start=1):
        scores[f"bleu_{order}"], per_image[f"bleu_{order}"] = 100.0 * float(score), 100.0 * each
    return scores, per_image


def _bleu_scores(references: Texts, predictions: Texts) -> tuple[np.ndarray, np.ndarray]:
    """Returns corpus BLEU-1 to 4 by pycocoevalcap, [4] in [0, 1], and what each image contributes, [4, N]."""
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=BLEU_ORDER)
    for image, truth in references.items():
        scorer += (predictions[image][0], truth)
    scores, _ = scorer.compute_score(option="closest")
    counts = np.array([_counts(image) for image in scorer.ctest], dtype=np.float64)
    without = _bleu_of_counts(counts.sum(axis=0) - counts)
    each = [jackknife_values(score, left) for score, left in zip(scores, without.T, strict=True)]
    return np.array(scores), np.stack(each)


def _meteor_score(references: Texts, predictions: Texts) -> tuple[float, np.ndarray]:
    """Returns METEOR 1.5 of the whole set from one Java process, in [0, 1], and what each image contributes, [N]."""
    from pycocoevalcap.meteor.meteor import Meteor

    _require_java("METEOR", "or leave it out with with_meteor=False")
    # "|||" parts the texts of a line that the process reads.
    safe = {image: [text.replace("|||", "") for text in captions] for image, captions in references.items()}
    scorer = Meteor()
    try:
        statistics = [scorer._stat(predictions[image][0], truth) for image, truth in safe.items()]
        counts = np.array([line.split() for line in statistics], dtype=np.float64)
        score = _meteor_of_counts(scorer, statistics)
        without = [_meteor_of_counts(scorer, [_line(left)]) for left in counts.sum(axis=0) - counts]
        return score, jackknife_values(score, np.array(without))
    except (OSError, ValueError) as error:
        scorer.meteor_p.kill()
        log = scorer.meteor_p.stderr.read().decode(errors="replace")[-500:]
        raise MetricUnavailableError(f"METEOR stopped with {error!r}. Java's own message: {log}") from error
    finally:
        _end(scorer)


def _counts(image: dict[str, Any]) -> list[float]:
    """Returns what BLEU adds up: matches by order, n-grams by order, words, words of the closest reference."""
    words = image["testlen"]
    closest = min((abs(length - words), length) for length in image["reflen"])[1]
    return [*image["correct"], *image["guess"], words, closest]


def _bleu_of_counts(counts: np.ndarray) -> np.ndarray:
    """Returns BLEU-1 to 4, of shape [N, 4], of sums of counts, [N, 10]."""
    matches, ngrams, words, wanted = np.split(counts, [BLEU_ORDER, 2 * BLEU_ORDER, 2 * BLEU_ORDER + 1], axis=1)
    precisions = (matches + TINY) / (ngrams + SMALL)
    ratio = (words + TINY) / (wanted + SMALL)
    return np.cumprod(precisions, axis=1) ** (1 / np.arange(1, BLEU_ORDER + 1)) * np.exp(np.minimum(0, 1 - 1 / ratio))


def _meteor_of_counts(scorer: Any, statistics: Sequence[str]) -> float:
    """Returns METEOR of all images whose statistics these are; the process answers for each, then for all."""
    scorer.meteor_p.stdin.write(" ||| ".join(["EVAL", *statistics]).encode() + b"\n")
    scorer.meteor_p.stdin.flush()
    answers = [scorer.meteor_p.stdout.readline().strip() for _ in range(len(statistics) + 1)]
    score = float(answers[-1])
    if not np.isfinite(score):
        raise ValueError(f"METEOR returned {score}, which is no score")
    return score


def _line(counts: np.ndarray) -> str:
    return " ".join(f"{count:.12g}" for count in counts)


def _end(scorer: Any) -> None:
    scorer.meteor_p.kill()
    scorer.meteor_p.wait()
    for stream in (scorer.meteor_p.stdin, scorer.meteor_p.stdout, scorer.meteor_p.stderr):
        with contextlib.suppress(OSError):
            stream.close()


def _spice(references: Texts, predictions: Texts) -> tuple[float, np.ndarray]:
    """Returns SPICE 1.0, the mean over images, in [0, 1], and that of each."""
    from pycocoevalcap.spice import spice

    _require_spice()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            score, images = spice.Spice().compute_score(references, predictions)
    except (OSError, ValueError, subprocess.CalledProcessError) as error:
        raise MetricUnavailableError(f"SPICE stopped with {error!r}. It was written for Java 8.") from error
    if not np.isfinite(score):
        raise MetricUnavailableError(f"SPICE returned {score}, which is no score.")
    found = {image: score["All"]["f"] for image, score in zip(sorted(references), images, strict=True)}
    return float(score), np.array([found[image] for image in references], dtype=np.float64)


def find_obstacle(tool: str) -> str:
    """Returns why a tool in Java cannot run here and what to do, or an empty text; starts nothing.

    Args:
        tool: ``ptb``, ``meteor`` or ``spice``.
    """
    checks: dict[str, Callable[[], None]] = {
        "ptb": lambda: _require_java("The ptb tokenizer", "or choose the tokenizer `simple`"),
        "meteor": lambda: _require_java("METEOR", "or leave it out with with_meteor=False"),
        "spice": _require_spice,
    }
    try:
        checks[tool]()
    except MetricUnavailableError as error:
        return str(error)
    return ""


def _require_spice() -> None:
    from pycocoevalcap.spice import spice

    _require_java("SPICE", "together with CoreNLP 3.6.0")
    folder = Path(spice.__file__).with_name("lib")
    missing = [jar for jar in SPICE_JARS if not (folder / jar).is_file()]
    if missing:
        raise MetricUnavailableError(f"SPICE needs CoreNLP 3.6.0. Put {' and '.join(missing)} into {folder}.")


def _require_java(what: str, otherwise: str) -> None:
    if shutil.which("java") is None:
        raise MetricUnavailableError(f"{what} needs Java, and there is no `java` here. {INSTALL_JAVA}, {otherwise}.")
