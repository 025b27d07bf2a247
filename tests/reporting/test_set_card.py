import json

import pytest
import yaml

from gmail_kedro.reporting.set_card import set_card, set_card_page, statistics_table

STATISTICS = {
    "counts": {"planned": 1210, "made": 1200, "quarantined": 10, "photographs": 605, "captions": 605, "shards": 7},
    "quarantine": {"black": 7, "duplicate": 3},
    "samples_per_caption": {"1": 10, "2": 595},
    "bytes": {"pictures": 1_500_000, "mean": 1250.0},
    "prompts": {"distinct": 600, "words_min": 2, "words_median": 9.5, "words_max": 24, "truncated": 4},
    "pictures": {
        "identical_count": 0,
        "looked_at_count": 1200,
        "brightness_mean": 190.5,
        "brightness_std": 20.1,
        "contrast_mean": 40.2,
        "near_duplicate_count": 6,
    },
}


@pytest.fixture
def card() -> dict:
    return set_card(
        "mini",
        generator={"name": "painter", "licence": "CC0-1.0", "revision": "r1", "weights": {"unet/weights": "w1"}},
        settings={"generator": "painter", "revision": "r1", "steps": 12, "guidance": 5.0},
        hashes={"set": "s1", "plan": "p1", "pictures": "i1"},
        statistics=STATISTICS,
    )


def test_the_page_starts_with_the_fields_the_hub_reads(card: dict):
    _, fields, body = set_card_page(card, sheet="samples.png").split("---\n", 2)
    found = yaml.safe_load(fields)
    assert found["pretty_name"] == "mini" and found["license_name"] == "CC0-1.0"
    assert found["size_categories"] == ["1K<n<10K"] and "painter" in found["tags"]
    assert body.lstrip().startswith("# mini\n")


@pytest.mark.parametrize(
    "row",
    [
        "| licence of its weights | CC0-1.0 |",
        "| steps | 12 |",
        "| pictures that may be paired | 1,200 |",
        "| pictures a caption | 1 for 10 captions, 2 for 595 captions |",
        "| prompts the generator had to cut | 4 |",
        "| near-duplicates among them | 6 |",
        "| black | 7 |",
        "| set | s1 |",
        "| plan | p1 |",
        "| unet/weights | w1 |",
        "![Photographs and the pictures made from their captions](samples.png)",
    ],
)
def test_the_page_says_what_made_the_set_and_what_it_holds(card: dict, row: str):
    assert row in set_card_page(card, sheet="samples.png").splitlines()


def test_the_card_is_json_and_says_the_same(card: dict):
    assert json.loads(json.dumps(card)) == card
    assert card["statistics"]["quarantine"] == {"black": 7, "duplicate": 3}


def test_nothing_held_back_is_said_in_words(card: dict):
    page = set_card_page(card | {"statistics": STATISTICS | {"quarantine": {}}}, sheet="s")
    assert "## Held back\n\nNo picture.\n" in page


def test_a_bar_in_a_value_does_not_break_the_table():
    broken = STATISTICS | {"samples_per_caption": {"1|2": 3}}
    assert "1\\|2 for 3 captions" in statistics_table(broken)


@pytest.mark.reliability(32)
def test_a_secret_of_the_settings_is_in_no_card():
    settings = {"hub_token": "abcdefgh", "source": "https://me:abcdefgh@example.org", "steps": 2}
    generator = {"name": "painter", "licence": None, "revision": "r1", "weights": {}}
    card = set_card("mini", generator=generator, settings=settings, hashes={}, statistics=STATISTICS)
    assert "abcdefgh" not in json.dumps(card) + set_card_page(card, sheet="samples.png")
    assert card["settings"]["steps"] == 2
