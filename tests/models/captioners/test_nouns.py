"""Nouns of captions: by a tagger without data, by NLTK where its data is, or from a list of words."""

from pathlib import Path

import pytest

from gmail_kedro.mini.world.caption_grammar import NOUNS
from gmail_kedro.models.captioners.nouns import (
    NLTK_DATA,
    absent_nltk_data,
    build_noun_finder,
    nltk_folders,
    read_vocabulary,
)
from gmail_kedro.models.weight_sources import MissingWeightsError


def _has_data(place):
    import nltk

    try:
        nltk.data.find(place)
    except LookupError:
        return False
    return True


HAS_NLTK = all(_has_data(place) for place in NLTK_DATA.values())


@pytest.mark.parametrize(
    ("caption", "nouns"),
    [
        ("two dogs are playing with a red ball.", ["dog", "ball"]),
        ("Women and children sitting at tables near buses", ["person", "child", "table", "bus"]),
        ("a glass of water on the bus", ["glass", "water", "bus"]),
        ("a man riding a wave", ["person", "wave"]),
        ("", []),
        ("🐕 !!", []),
    ],
)
def test_the_tagger_without_data_finds_nouns(caption, nouns):
    assert build_noun_finder("textblob", None)(caption) == nouns


@pytest.mark.parametrize(
    ("plurals", "singulars"),
    [
        ("fives toes olives", "five toe olive"),  # which TextBlob's rules alone make fife, to and olife
        ("ties pies canoes drives bases", "tie pie canoe drive base"),
        ("shelves knives thieves hooves wolves", "shelf knife thief hoof wolf"),
        ("dogs buses churches cherries tomatoes taxes", "dog bus church cherry tomato tax"),
        ("children mice feet geese", "child mouse foot goose"),
        ("giraffes hippos", "giraffe hippo"),
        ("elves selfies scissors", "elves selfies scissors"),  # whose singulars are not known
    ],
)
def test_plurals_become_words_that_there_are(plurals, singulars):
    find = build_noun_finder("textblob", None)
    assert [find(f"two {word}")[-1] for word in plurals.split()] == singulars.split()


def test_a_vocabulary_keeps_only_its_words():
    assert build_noun_finder("textblob", ["Ball"])("two dogs with a ball") == ["ball"]
    find = build_noun_finder("vocabulary", NOUNS)
    assert find("A tiny 42 written in red on a ruled sheet, forty two.") == ["42", "red", "sheet", "forty", "two"]
    assert find("a red 7 and a red 8") == ["red", "7", "red", "8"]


@pytest.mark.skipif(HAS_NLTK, reason="NLTK's data is on this machine")
def test_without_its_data_nltk_says_how_to_get_it():
    with pytest.raises(MissingWeightsError, match="nltk.downloader averaged_perceptron_tagger_eng wordnet.*textblob"):
        build_noun_finder("nltk", None)


@pytest.mark.skipif(not HAS_NLTK, reason="NLTK's data is not on this machine")
def test_nltk_finds_lemmas():
    assert build_noun_finder("nltk", None)("two dogs play with a ball") == ["dog", "ball"]


def test_what_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(ValueError, match="Set ifcap.vocabulary"):
        build_noun_finder("vocabulary", None)
    with pytest.raises(ValueError, match="Got 'spacy' instead"):
        build_noun_finder("spacy", None)
    with pytest.raises(MissingWeightsError, match="which is not there"):
        read_vocabulary(tmp_path / "words.txt")
    (tmp_path / "words.txt").write_text("\ufeffdog\r\n\r\n ball \n", encoding="utf-8")
    assert read_vocabulary(tmp_path / "words.txt") == ["dog", "ball"]
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(MissingWeightsError, match="is empty"):
        read_vocabulary(tmp_path / "empty.txt")


def test_nltks_data_is_looked_for_where_nltk_looks():
    import nltk

    assert set(map(str, nltk_folders())) == set(nltk.data.path) | {str(Path.home() / "nltk_data")}
    assert absent_nltk_data() == [name for name, place in NLTK_DATA.items() if not _has_data(place)]
