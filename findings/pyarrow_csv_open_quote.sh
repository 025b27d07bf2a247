#!/usr/bin/env bash
# pyarrow 25.0.1: a quote that is never closed in the last column of a CSV makes one value of all lines below it, to the
# end of the file, without an error and without a call of `invalid_row_handler`, also with the default
# newlines_in_values=False, which says that no value has a line break. pandas' parser refuses the same bytes ("EOF inside
# string"). A table of captions loses its rows below a stray quote, and one caption gets them all: compare the rows with
# the lines, or look for values with line breaks.
#
# Guessed before the run: an error, or the line as an invalid row. Seen:
#   4 rows written, 2 read; the last value: 'open\n3,c\n4,d\n'; rows handed to the handler: 0
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check pyarrow==25.0.1 pandas==3.1.1
"$work/env/bin/python" - <<'PYTHON'
import io

import pandas
import pyarrow
from pyarrow import csv

table = b'number,caption\n1,a\n2,"open\n3,c\n4,d\n'
handled = []
options = csv.ParseOptions(newlines_in_values=False, invalid_row_handler=lambda row: handled.append(row) or "skip")
rows = csv.read_csv(io.BytesIO(table), parse_options=options).to_pylist()
print("pyarrow", pyarrow.__version__)
print(f"4 rows written, {len(rows)} read; the last value: {rows[-1]['caption']!r}; rows handed to the handler: {len(handled)}")
try:
    pandas.read_csv(io.BytesIO(table))
    refused = ""
except pandas.errors.ParserError as error:
    refused = str(error)
print("pandas", pandas.__version__, refused)
assert len(rows) == 2 and rows[-1]["caption"] == "open\n3,c\n4,d\n" and not handled and "EOF" in refused, "changed"
PYTHON
