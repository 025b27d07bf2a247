"""The card of a generated set: what made it, what it holds and how good it is, in Markdown and as JSON.

The Markdown starts with the fields that the Hugging Face hub reads, so the set's folder can be published as it is.
"""

from collections.abc import Mapping
from typing import Any

from gmail_kedro.redaction import redact_values
from gmail_kedro.reporting.plain_text import command, markdown, markdown_table

WEBDATASET = "shards/*.tar"
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
COUNT_LABELS = {
    "made": "pictures that may be paired",
    "quarantined": "pictures held back",
    "photographs": "photographs they belong to",
    "captions": "captions",
    "shards": "shards",
}


def set_card(
    name: str,
    *,
    generator: Mapping[str, Any],
    settings: Mapping[str, Any],
    hashes: Mapping[str, str],
    statistics: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the card as JSON values; equal sets have equal cards.

    Args:
        name: The set's name.
        generator: ``name``, ``licence``, ``revision`` and ``weights`` (the sha256 of each file).
        settings: What decided the pixels beside the plan.
        hashes: ``set``, ``plan`` and ``pictures``.
        statistics: As ``generated_sets.set_statistics`` returns them.
    """
    return {
        "name": name,
        "generator": dict(generator),
        "settings": redact_values(settings),
        "hashes": dict(hashes),
        "statistics": dict(statistics),
    }


def set_card_page(card: Mapping[str, Any], *, sheet: str) -> str:
    """Returns the card as Markdown.

    Args:
        card: As ``set_card`` returns it.
        sheet: File name of the contact sheet that lies with it.
    """
    statistics, generator = card["statistics"], card["generator"]
    counts, weights = statistics["counts"], generator["weights"]
    settings = {key: value for key, value in card["settings"].items() if key not in ("generator", "revision")}
    parts = [
        _front_matter(card),
        f"# {markdown(card['name'])}\n",
        f"{counts['made']:,} pictures that {markdown(generator['name'])} made from the captions of "
        f"{counts['photographs']:,} photographs, for training on generated images (GMAIL).\n",
        f"![Photographs and the pictures made from their captions]({sheet})\n",
        "## What made it\n",
        _table(
            {"generator": generator["name"], "licence of its weights": generator["licence"] or "not stated"} | settings
        ),
        "## What it holds and how good it is\n",
        statistics_table(statistics),
        "## Held back\n",
        _table(statistics["quarantine"], "reason", "pictures") if statistics["quarantine"] else "No picture.\n",
        "## Hashes\n",
        _table({**card["hashes"], "weights": generator["revision"]}, "of", "sha256"),
        _table(weights, "weight file", "sha256") if weights else "The weights' files were not recorded.\n",
        "## Use\n",
        f"`shards/*.tar` are WebDataset shards: a JPEG and a JSON (caption, seed, settings) under one name. "
        "`manifest.parquet` has a row a picture, with its hash. "
        f"Check every byte: {command('gmail-kedro', 'set', 'verify', card['name'])}. "
        f"Make one picture again: {command('gmail-kedro', 'set', 'regenerate', card['name'], 'KEY')}.\n",
    ]
    return "\n".join(parts)


def statistics_table(statistics: Mapping[str, Any]) -> str:
    """Returns the statistics of a set as a Markdown table."""
    counts, prompts, pictures = statistics["counts"], statistics["prompts"], statistics["pictures"]
    samples = ", ".join(f"{size} for {count:,} captions" for size, count in statistics["samples_per_caption"].items())
    rows = {label: f"{counts[key]:,}" for key, label in COUNT_LABELS.items()} | {
        "pictures a caption": samples,
        "bytes of the pictures": f"{statistics['bytes']['pictures']:,} ({statistics['bytes']['mean']:,} each)",
        "distinct prompts": f"{prompts['distinct']:,}",
        "words a prompt": f"{prompts['words_min']} to {prompts['words_max']}, median {prompts['words_median']:g}",
        "prompts the generator had to cut": f"{prompts['truncated']:,}",
        "pictures with the bytes of another": f"{pictures['identical_count']:,}",
        "pictures looked at": f"{pictures['looked_at_count']:,}",
        "near-duplicates among them": f"{pictures['near_duplicate_count']:,}",
        "brightness (0 to 255) and its std": f"{pictures['brightness_mean']} ± {pictures['brightness_std']}",
        "contrast inside a picture": f"{pictures['contrast_mean']}",
    }
    return _table(rows)


def _front_matter(card: Mapping[str, Any]) -> str:
    import yaml

    count = card["statistics"]["counts"]["made"]
    fields = {
        "pretty_name": card["name"],
        "license": "other",
        "license_name": card["generator"]["licence"] or "not stated",
        "task_categories": ["text-to-image", "image-to-text"],
        "size_categories": [next((words for limit, words in SIZES if count < limit), "10M<n<100M")],
        "tags": ["generated", "webdataset", card["generator"]["name"]],
        "configs": [{"config_name": "default", "data_files": WEBDATASET}],
    }
    return f"---\n{yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)}---\n"


def _table(rows: Mapping[str, Any], first: str = "", second: str = "") -> str:
    lines = [[markdown(key), markdown(value)] for key, value in rows.items()]
    return "\n".join(markdown_table([first, second], lines)) + "\n"
