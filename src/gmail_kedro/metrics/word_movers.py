"""Word mover's similarity of captions: how far the words of a prediction travel to become those of a reference.

The caption form of Kilickaya et al. (2017): score = max over references of exp(-WMD / sigma), its mean over images
times 100. Words come from the tokenizer of the other caption metrics, without English function words; vectors have
unit length, and words without a vector are left out. The number depends on the vectors: never compare two files'.
"""

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmail_kedro.metrics.caption_scores import CaptionResult, MetricUnavailableError, tokenize_simple
from gmail_kedro.whole_files import DamagedFileError, read_tensors, write_tensors

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

logger = logging.getLogger(__name__)

SIGMA = 1.0
OWN_SEED = 0  # own vectors are part of the measure, not of the run: every run must use the same
OWN_WIDTH, OWN_EPOCHS, OWN_WINDOW = 64, 20, 4
FUNCTION_WORDS_TEXT = """
i me my myself we our ours ourselves you your yours yourself yourselves he him his himself she her hers herself it its
itself they them their theirs themselves what which who whom this that these those am is are was were be been being
have has had having do does did doing a an the and but if or because as until while of at by for with about against
between into through during before after above below to from up down in out on off over under again further then once
here there when where why how all any both each few more most other some such no nor not only own same so than too very
can will just should now s t d m o y ll re ve don isn aren wasn weren hasn haven hadn doesn didn won wouldn shouldn
couldn mustn needn shan mightn ain ma 's 't 'd 'm 'll 're 've n't ca wo
"""
FUNCTION_WORDS = frozenset(FUNCTION_WORDS_TEXT.split())


def load_word_vectors(path: Path) -> "KeyedVectors":
    """Returns word vectors from a file: word2vec's binary (``.bin``) or text form, or GloVe's; ``.gz`` is fine.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is of none of these forms.
    """
    from gensim.models import KeyedVectors

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"There are no word vectors at '{path}'. Give evaluation.word_vectors a word2vec or GloVe file, such as "
            "GoogleNews-vectors-negative300.bin, or `own` for vectors trained on the corpus's captions."
        )
    is_binary = path.name.removesuffix(".gz").endswith(".bin")
    try:
        has_header = is_binary or _has_header(path)
        return KeyedVectors.load_word2vec_format(str(path), binary=is_binary, no_header=not has_header)
    except (ValueError, EOFError, IndexError, UnicodeDecodeError) as error:
        raise ValueError(
            f"The word vectors '{path}' must be in word2vec's binary form (named .bin), its text form, or GloVe's. "
            f"Reading stopped with: {error}"
        ) from error


def train_word_vectors(captions: Sequence[str], folder: Path, *, seed: int) -> "KeyedVectors":
    """Returns skip-gram vectors trained on captions, or those that were trained on the same before.

    Args:
        captions: Tokens joined by spaces.
        folder: Where vectors are kept; the file's name is a hash of captions and settings.
        seed: Seeds the training; the same captions and seed give the same vectors.

    Raises:
        ValueError: If the captions have no words.
    """
    sentences = [caption.split() for caption in captions]
    if not any(sentences):
        raise ValueError("Word vectors need captions with words. Got none.")
    settings = f"{OWN_WIDTH} {OWN_EPOCHS} {OWN_WINDOW} {seed}\n"
    digest = hashlib.sha256((settings + "\n".join(captions)).encode()).hexdigest()[:32]
    path = Path(folder) / f"word_vectors-{digest}.safetensors"
    if path.is_file():
        try:
            return _read_own(path)
        except DamagedFileError as error:
            logger.warning("%s", error)
    _train_own(sentences, path, seed)
    return _read_own(path)


def _train_own(sentences: Sequence[Sequence[str]], path: Path, seed: int) -> None:
    import torch
    from gensim.models import Word2Vec

    model = Word2Vec(
        sentences,
        vector_size=OWN_WIDTH,
        window=OWN_WINDOW,
        epochs=OWN_EPOCHS,
        sg=1,
        min_count=1,
        seed=seed,
        workers=1,  # with more, gensim's threads race, and the vectors differ from run to run
    )
    write_tensors(path, {"vectors": torch.from_numpy(model.wv.vectors)}, {"words": model.wv.index_to_key})


def _read_own(path: Path) -> "KeyedVectors":
    from gensim.models import KeyedVectors

    tensors, facts = read_tensors(path, remedy="They are trained anew.")
    vectors = KeyedVectors(OWN_WIDTH)
    vectors.add_vectors(facts["words"], tensors["vectors"].numpy())
    return vectors


def score_result(
    result: CaptionResult, training_captions: Sequence[str], *, word_vectors: str | None, folder: Path
) -> np.ndarray:
    """Returns the word mover's similarity of each image with the vectors that a configuration names, of shape [N].

    Args:
        result: Captions and references, tokenized.
        training_captions: What vectors of the corpus's own are trained on.
        word_vectors: A file, ``own``, or None.
        folder: Where own vectors are kept.

    Raises:
        MetricUnavailableError: If no vectors are named, or they cannot be read or trained.
    """
    if word_vectors is None:
        raise MetricUnavailableError("The word mover's similarity needs word vectors. Set evaluation.word_vectors.")
    if word_vectors == "own":
        if not training_captions:
            raise MetricUnavailableError("The corpus has no training captions for word vectors of its own.")
        sentences = [" ".join(tokenize_simple(caption)) for caption in training_captions]
        vectors = train_word_vectors(sentences, folder, seed=OWN_SEED)
    else:
        try:
            vectors = load_word_vectors(Path(word_vectors))
        except (OSError, ValueError) as error:
            raise MetricUnavailableError(str(error)) from error
    return word_mover_scores(result.tokens, result.reference_tokens, vectors)


def word_mover_scores(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    vectors: "KeyedVectors",
    *,
    sigma: float = SIGMA,
) -> np.ndarray:
    """Returns each image's word mover's similarity, x 100, of shape [N], in the references' order.

    Args:
        predictions: The caption of each image, tokens joined by spaces; one without known words scores 0.
        references: The reference captions of each image, likewise.
        vectors: The word vectors.
        sigma: Distance at which the similarity has fallen to 1/e.

    Raises:
        ValueError: If there are no images, an image has no prediction or no reference, or sigma is not positive.
    """
    if not sigma > 0:
        raise ValueError(f"The sigma of the word mover's similarity must be greater than 0. Got {sigma} instead.")
    if not references:
        raise ValueError("The word mover's similarity needs at least one image. Got none.")
    scores = []
    for image, captions in references.items():
        if image not in predictions or not captions:
            raise ValueError(f"Every image must have a prediction and references. Image {image!r} has not.")
        said = _known_words(predictions[image], vectors)
        distances = (_distance(said, _known_words(caption, vectors), vectors) for caption in captions)
        scores.append(100.0 * math.exp(-min(distances) / sigma))
    return np.array(scores)


def _known_words(caption: str, vectors: "KeyedVectors") -> list[str]:
    return [word for word in caption.split() if word not in FUNCTION_WORDS and word in vectors]


def _distance(first: list[str], second: list[str], vectors: "KeyedVectors") -> float:
    if not first or not second:
        return math.inf
    # gensim asks a solver even for equal words, and gets what is almost 0.
    return 0.0 if sorted(first) == sorted(second) else float(vectors.wmdistance(first, second, norm=True))


def _has_header(path: Path) -> bool:
    import gzip

    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        return len(stream.readline(4096).split()) == 2  # the two counts of word2vec, which GloVe leaves out
