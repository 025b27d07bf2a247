"""Rows have the numbers that they have in their files."""

import pytest

from gmail_kedro.corpora.row_numbers import RowNumbers


def test_rows_that_are_left_out_have_numbers_too():
    rows = RowNumbers()
    assert rows.take(2).to_pylist() == [0, 1]
    assert [rows.leave_out(place) for place in (3, 4, 9)] == [3, 4, 9]  # a parser reads ahead
    assert rows.take(3).to_pylist() == [2, 5, 6]
    assert rows.take(0).to_pylist() == []
    assert rows.take(3).to_pylist() == [7, 8, 10]


@pytest.mark.parametrize(("last", "following"), [(None, 2), (2, 3), (5, 6), (0, 2)])
def test_a_file_goes_on_where_the_one_before_ended(last, following):
    """Also where that one ended with rows that were left out."""
    rows = RowNumbers()
    if last is not None:
        rows.leave_out(last)
    rows.take(1 if last == 0 else 2)
    rows.end_file()
    assert rows.total == following
    assert rows.leave_out(1) == following + 1
    assert rows.take(2).to_pylist() == [following, following + 2]
