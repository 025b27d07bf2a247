"""Numbers of a table's rows, counted as its file has them and not as a parser gives them back."""

import numpy as np
import pyarrow as pa


class RowNumbers:
    """Numbers the rows of tables that follow one another, from 0, those that are left out among them."""

    def __init__(self) -> None:
        self._file = 0  # number of the first row of this file
        self._next = 0
        self._left_out: list[int] = []  # a parser reads ahead: some of these come after the rows it has given back

    def leave_out(self, place: int) -> int:
        """Counts a row that is not among those taken; returns its number.

        Args:
            place: Its place in its file, from 0.
        """
        self._left_out.append(self._file + place)
        return self._left_out[-1]

    def take(self, count: int) -> pa.Array:
        """Returns the numbers of the next rows that are not left out, int64 [count]; all before them are known.

        Args:
            count: How many.
        """
        known = np.array(self._left_out, np.int64)
        numbers = np.setdiff1d(np.arange(self._next, self._next + count + len(known)), known)[:count]
        if count:
            self._next = int(numbers[-1]) + 1
            self._left_out = [number for number in self._left_out if number >= self._next]
        return pa.array(numbers, pa.int64())

    def end_file(self) -> None:
        """Ends a file: the rows after its last row that was taken are counted too."""
        self._next = max([self._next, *(number + 1 for number in self._left_out)])
        self._file, self._left_out = self._next, []

    @property
    def total(self) -> int:
        """How many rows the files had that have ended."""
        return self._file
