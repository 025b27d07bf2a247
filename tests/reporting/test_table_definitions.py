"""The tables as data: the repository's own file is whole, and what is wrong in one is refused by name."""

import numpy as np
import pytest
import yaml

from gmail_kedro.reporting.table_definitions import Column, read_tables


def define(**row):
    columns = {"cider": "scores:captioning/cider", "hours": {"at": "cost:total/seconds", "lower": True, "per": 3600}}
    rows = {"base": {"run": "clipcap", "paper": [1, None]}, "ours": {"run": "gmail", **row}}
    return {"tables": {1: {"title": "T", "columns": columns, "rows": rows}}}


def test_the_repositorys_tables_are_the_papers_58_rows_and_our_own(repository):
    tables = read_tables(yaml.safe_load((repository / "conf/base/tables.yml").read_text()))
    papers = [table for table in tables if table.number <= 17]
    assert [table.number for table in papers] == list(range(1, 18))
    assert sum(len(table.rows) for table in papers) == 58
    assert papers[10].rows["LoRA rank 2"].paper == (36.85, 117.62, 23.1)
    assert all(not np.isnan(row.paper).all() for table in papers for row in table.rows.values())
    ours = [table for table in tables if table.number >= 101]
    assert len(ours) >= 4 and all(np.isnan(row.paper).all() for table in ours for row in table.rows.values())


def test_columns_say_where_their_numbers_lie():
    (table,) = read_tables(define(against="base", file="vision_language", seeds=[0, 2]))
    base, ours = table.rows["base"], table.rows["ours"]
    assert base.columns[0] == Column("cider", "scores", ("captioning",), "cider")
    assert base.columns[1] == Column("hours", "cost", ("total",), "seconds", higher_is_better=False, per=3600.0)
    assert ours.columns[0].file == "vision_language" and ours.seeds == (0, 2) and ours.against == "base"
    assert base.paper[0] == 1 and np.isnan([*base.paper[1:], *ours.paper]).all()
    nested = read_tables(define(group="linear_probe"))[0].rows["ours"].columns[0]
    assert nested.groups == ("linear_probe",)


def test_a_number_may_lie_at_one_of_several_addresses():
    definitions = define(group="fine_tuning linear_probe")
    definitions["tables"][1]["columns"]["cider"] = ["scores:captioning/cider", "scores:other/f1"]
    rows = read_tables(definitions)[0].rows
    assert addresses(rows["base"].columns[0]) == ["captioning/cider", "other/f1"]
    both = ["fine_tuning/cider", "linear_probe/cider", "fine_tuning/f1", "linear_probe/f1"]
    assert addresses(rows["ours"].columns[0]) == both
    assert addresses(rows["ours"].columns[1]) == ["fine_tuning/seconds", "linear_probe/seconds"]
    definitions["tables"][1]["columns"]["cider"] = []
    with pytest.raises(ValueError, match="has no address for 'cider'. Give FILE:GROUP/KEY"):
        read_tables(definitions)


def addresses(column):
    return [] if column is None else [f"{column.groups[0]}/{column.key}", *addresses(column.instead)]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"against": "nobody"}, "Row 'ours' of table 1 .* compared with 'nobody', which is no row"),
        ({"paper": [1]}, "must have 2 numbers of the paper. Got 1"),
        ({"colour": "red"}, r"a key nobody reads: \['colour'\]"),
    ],
)
def test_a_wrong_row_is_refused_by_name(row, message):
    with pytest.raises(ValueError, match=message):
        read_tables(define(**row))


def test_a_wrong_address_is_refused():
    definitions = define()
    definitions["tables"][1]["columns"]["cider"] = "captioning/cider"
    with pytest.raises(ValueError, match="FILE:GROUP/KEY. Got 'captioning/cider' for 'cider'"):
        read_tables(definitions)
