"""A quote that does not close is refused before the rows below it become one caption."""

import pytest

from gmail_kedro.corpora.csv_quotes import refuse_open_quote


@pytest.fixture
def table(tmp_path):
    def write(content, encoding="utf-8"):
        (tmp_path / "own.csv").write_bytes(content.encode(encoding))
        return tmp_path / "own.csv"

    return write


@pytest.mark.reliability(8)
@pytest.mark.parametrize(
    "content",
    ['file,caption\na.jpg,"one\nb.jpg,two\nc.jpg,three\n', 'file,caption\na.jpg,"one\nb.jpg,"two"\nc.jpg,three\n'],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_an_open_quote_is_refused(table, content, encoding):
    with pytest.raises(ValueError, match=r"own.csv' has a quote that does not close, in or above line [34] .*Close it"):
        refuse_open_quote(table(content, encoding))


@pytest.mark.parametrize(
    "content", ['a,"one\n\ntwo"\nb,"she said ""hi"""\n', 'a,a 5" wall\nb,"two"\n', 'a,"x"y\n', "a,b\n", ""]
)
def test_quotes_that_pair_and_marks_within_a_cell_are_fine(table, content):
    refuse_open_quote(table(content))
