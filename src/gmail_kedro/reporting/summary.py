"""The words at the end of a run: scores beside the other runs, where things lie, what to do next."""

from collections.abc import Mapping
from typing import Any

COLUMNS = (
    ("BLEU-4", "captioning", "bleu_4", 1),
    ("CIDEr", "captioning", "cider", 1),
    ("ROUGE-L", "captioning", "rouge_l", 1),
    ("METEOR", "captioning", "meteor", 1),
    ("paired cosine", "gap", "paired_cosine_after", 3),
    ("probe AUC", "gap", "probe_auc_after", 3),
    ("centroid dist.", "gap", "centroid_distance_after", 3),
)


def summarize(all_scores: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the summary of all runs that have scores, in Markdown.

    Args:
        all_scores: The content of each run's ``scores.json``, by run id.
    """
    first = next(iter(all_scores.values()))
    protocol = first["protocol"]
    parts = [
        "# Results",
        "",
        f"Real images of the {protocol['split']} split, encoder {protocol['encoder']}, generator "
        f"{protocol['generator']}. In brackets: 95 % bootstrap interval over images, one training seed.",
        "",
        _captioning_table(all_scores),
        "",
        "Captioners are trained on the run's own features and read real images through the frozen teacher. "
        "A probe AUC of 0.5 means that a linear classifier cannot tell generated from real.",
        *_unavailable(first),
        "",
        "## Zero-shot, on real images (frozen teacher: the same in every run by construction)",
        "",
        _zero_shot_table(first),
    ]
    return "\n".join(parts) + "\n"


def where_to_look(run_id: str) -> str:
    """Returns the closing lines: where the results of a run lie and which command comes next."""
    return "\n".join(
        [
            f"Scores       data/08_reporting/{run_id}/scores.json   summary: data/08_reporting/summary.md",
            f"Figures      data/08_reporting/{run_id}/pairs.png   data/08_reporting/{run_id}/tsne.png",
            f"Adapter      data/06_models/{run_id}/adapter (PEFT)",
            "Compare runs make ui   (MLflow, on http://127.0.0.1:5000)",
            "Next         kedro run --params=run_id=rank2,alignment.lora_rank=2 --pipeline=experiment",
        ]
    )


def _captioning_table(all_scores: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| run | " + " | ".join(title for title, *_ in COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for run_id, scores in all_scores.items():
        cells = [_cell(scores[group], key, digits) for _, group, key, digits in COLUMNS]
        lines.append(f"| {run_id} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(group: Mapping[str, Any], key: str, digits: int) -> str:
    value = group["scores"].get(key)
    if value is None:
        return "—"
    interval = group["intervals"].get(key)
    text = f"{value:.{digits}f}"
    return f"{text} [{interval['low']:.{digits}f}, {interval['high']:.{digits}f}]" if interval else text


def _zero_shot_table(scores: Mapping[str, Any]) -> str:
    lines = ["| measure | score [95 %] |", "|---|---|"]
    for group in ("retrieval", "classification"):
        lines += [f"| {key} | {_cell(scores[group], key, 1)} |" for key in scores[group]["scores"]]
    return "\n".join(lines)


def _unavailable(scores: Mapping[str, Any]) -> list[str]:
    reasons = scores["captioning"].get("unavailable", {})
    return ["", *(f"{name}: unavailable ({reason})" for name, reason in reasons.items())] if reasons else []
