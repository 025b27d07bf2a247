"""What a profile sets to null it does not have; everything else is as the files say."""

from gmail_kedro.definitions import read_definitions


def test_nulls_are_taken_away_one_level_down_and_lists_stay():
    merged = {"runs": {"a": {"set": None}, "b": None, "c": {}}, "demo": ["a", "b"], "laws": {102: None}}
    found = read_definitions({"experiments": merged, "sets": {}}, "experiments")
    assert found == {"runs": {"a": {"set": None}, "c": {}}, "demo": ["a", "b"], "laws": {}}
