"""The nouns of captions: by a part-of-speech tagger, or by a list of words.

``nltk`` is what IFCap used: NLTK's perceptron tagger and WordNet's lemmas, whose data a person downloads once.
``textblob`` needs no data: the tagger that comes with TextBlob, and its plural rules as far as its lexicon knows what
they make. ``vocabulary`` finds the words of a list, and says which caption words are in it.
"""

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

from gmail_kedro.models.weight_sources import MissingWeightsError

Finder = Callable[[str], list[str]]
WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
# What is needed and where it lies under a folder of NLTK's, and which folders those are.
NLTK_DATA = {
    "averaged_perceptron_tagger_eng": "taggers/averaged_perceptron_tagger_eng",
    "wordnet": "corpora/wordnet.zip",
}
NLTK_PARTS = ("nltk_data", "share/nltk_data", "lib/nltk_data")
NLTK_SYSTEM = ("/usr/share", "/usr/local/share", "/usr/lib", "/usr/local/lib")
OTHER_KINDS = ("CD", "JJ", "VB", "VBD", "VBP")  # what TextBlob's lexicon takes five, olive, ride and rose for
PERSON_WORDS = frozenset(["man", "woman", "boy", "girl", "guy", "lady", "gentleman", "person", "people"])


def build_noun_finder(kind: str, vocabulary: Iterable[str] | None) -> Finder:
    """Returns a function from a caption to its nouns: lower-case, singular, in order, as often as they occur.

    Words for a person, such as ``woman``, all become ``person``, as in IFCap.

    Args:
        kind: ``textblob``, ``nltk`` or ``vocabulary``.
        vocabulary: The only nouns that are kept; None for all that a tagger finds.

    Raises:
        ValueError: If the kind is not known, or is ``vocabulary`` and there is none.
        MissingWeightsError: If NLTK's data is not there; says how to get it.
    """
    allowed = None if vocabulary is None else frozenset(word.lower() for word in vocabulary)
    if kind == "vocabulary":
        if not allowed:
            raise ValueError("Nouns from a vocabulary need one. Set ifcap.vocabulary to a file with one word a line.")
        tag: Finder = _words
    elif kind == "textblob":
        tag = _textblob_nouns
    elif kind == "nltk":
        tag = _nltk_finder()
    else:
        raise ValueError(f"Nouns come from textblob, nltk or a vocabulary. Got {kind!r} instead.")

    def find(caption: str) -> list[str]:
        kept = [noun for noun in tag(caption) if allowed is None or noun in allowed]
        return ["person" if noun in PERSON_WORDS else noun for noun in kept]

    return find


def read_vocabulary(path: Path) -> list[str]:
    """Returns the words of a UTF-8 text file, one a line.

    Raises:
        MissingWeightsError: If the file is not there or holds no word.
    """
    if not path.is_file():
        raise MissingWeightsError(f"The vocabulary of nouns was to be read from {path}, which is not there.")
    words = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if not words:
        raise MissingWeightsError(f"The vocabulary of nouns in {path} is empty. Expected one word a line.")
    return words


def absent_nltk_data() -> list[str]:
    """Returns which of NLTK's data are on none of its paths, by a look at files: importing NLTK takes seconds."""
    return [
        name
        for name, place in NLTK_DATA.items()
        if not any((folder / place).exists() or (folder / f"{place}.zip").exists() for folder in nltk_folders())
    ]


def nltk_folders() -> list[Path]:
    """Returns the folders in which NLTK looks for its data."""
    named = [Path(folder) for folder in os.environ.get("NLTK_DATA", "").split(os.pathsep) if folder]
    own = [Path.home() / "nltk_data", *(Path(sys.prefix) / part for part in NLTK_PARTS)]
    return named + own + [Path(root) / "nltk_data" for root in NLTK_SYSTEM]


def _words(caption: str) -> list[str]:
    return WORD.findall(caption.lower())


def _textblob_nouns(caption: str) -> list[str]:
    from textblob.en import tag

    return [
        _singular(word) if kind == "NNS" else word
        for word, kind in tag(caption.lower())  # a capital at the start would be read as a name
        if kind in ("NN", "NNS") and WORD.fullmatch(word)
    ]


@cache
def _singular(plural: str) -> str:
    """Returns the singular that TextBlob's lexicon knows, best as a noun; the plural itself where it knows none.

    The rules alone make a fife of fives, to of toes and olife of olives.
    """
    from textblob.en import lexicon
    from textblob.en.inflect import singularize

    ruled, stem = singularize(plural), plural.removesuffix("s")
    forms = [stem, ruled]
    forms += [stem[:-1]] if plural.endswith("es") else []
    forms += [f"{stem[:-2]}f", f"{stem[:-2]}fe"] if plural.endswith("ves") else []
    known = {form: lexicon.get(form) for form in forms if form != plural}
    for kinds in (("NN",), OTHER_KINDS):
        for form, kind in known.items():
            if kind in kinds:
                return form
    return ruled if ruled == stem else plural


def _nltk_finder() -> Finder:
    if missing := absent_nltk_data():
        raise MissingWeightsError(
            f"NLTK's data {missing} is not on this machine. Where there is a network: python -m nltk.downloader "
            f"{' '.join(missing)}; or set ifcap.nouns: textblob, which needs no data."
        )
    import nltk

    lemmatizer = nltk.stem.WordNetLemmatizer()

    def find(caption: str) -> list[str]:
        tagged: Sequence[tuple[str, str]] = nltk.pos_tag(nltk.tokenize.wordpunct_tokenize(caption))
        return [
            lemmatizer.lemmatize(word.lower())
            for word, kind in tagged
            if kind in ("NN", "NNS") and WORD.fullmatch(word)
        ]

    return find
