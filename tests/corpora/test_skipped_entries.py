"""What is left out is counted, told, and limited."""

import logging

import pytest

from gmail_kedro.corpora.skipped_entries import Skipped


def _skipped(count=2):
    skipped = Skipped()
    skipped.add("blank caption", "row 7", count=count)
    skipped.add("no image", "row 9")
    return skipped


@pytest.mark.reliability(12)
@pytest.mark.reliability(12)
def test_over_the_limit_is_refused_with_reasons():
    """Peers test 12."""
    with pytest.raises(
        ValueError,
        match=r"(?s)3 of the 1000 entries of the corpus 'own' cannot be used \(0.30%\); its skip_limit allows 0.10%.*"
        r"blank caption: 2 \(such as row 7\).*no image: 1 \(such as row 9\)",
    ):
        _skipped().check(taken=997, limit=0.001, name="own")


@pytest.mark.reliability(12)
@pytest.mark.reliability(12)
def test_within_the_limit_is_logged(caplog):
    """Peers test 12."""
    with caplog.at_level(logging.WARNING):
        _skipped().check(taken=2_997, limit=0.001, name="own")
    assert "Corpus own: entries left out:\n- blank caption: 2 (such as row 7)" in caplog.text
    assert _skipped().counts == {"blank caption": 2, "no image": 1}


def test_what_was_asked_for_does_not_count_against_the_limit():
    skipped = _skipped(count=0)
    skipped.add("dead link", "row 1", count=10_000)
    skipped.allow("dead link")
    skipped.check(taken=1_000, limit=0.001, name="own")


@pytest.mark.reliability(12)
def test_nothing_left_is_refused_at_any_limit():
    with pytest.raises(ValueError, match="has no entry that can be used. Left out:"):
        _skipped().check(taken=0, limit=1.0, name="own")


def test_a_block_of_entries_is_counted_whole_and_named_by_its_first():
    skipped = Skipped()
    skipped.add("blank caption", "row 1")
    skipped.add_all("blank caption", [])
    skipped.add_all("blank caption", range(10, 20))
    assert skipped.counts == {"blank caption": 11}
    with pytest.raises(ValueError, match=r"blank caption: 11 \(such as row 1, 10, 11\)"):
        skipped.check(taken=1, limit=0.1, name="own")
