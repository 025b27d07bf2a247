"""The words at the end of a run: scores beside the other runs, where things lie, what to do next."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gmail_kedro.reporting.comparison import differing_protocol
from gmail_kedro.reporting.plain_text import interval_text, markdown, markdown_table, one_line

COLUMNS = (
    ("BLEU-4", "captioning", "bleu_4", 1),
    ("CIDEr", "captioning", "cider", 1),
    ("ROUGE-L", "captioning", "rouge_l", 1),
    ("METEOR", "captioning", "meteor", 1),
    ("i2t R@1, tuned", "retrieval", "tuned_i2t_r1", 1),
    ("t2i R@1, tuned", "retrieval", "tuned_t2i_r1", 1),
    ("paired cosine", "gap", "paired_cosine_after", 3),
    ("probe AUC", "gap", "probe_auc_after", 3),
    ("centroid dist.", "gap", "centroid_distance_after", 3),
)


def summarize(
    run_id: str,
    scores: Mapping[str, Any],
    others: Mapping[str, Mapping[str, Any]],
    damaged: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Returns the summary of a run beside the runs that are comparable with it, in Markdown.

    Args:
        run_id: The run that has just ended.
        scores: The content of its ``scores.json``.
        others: The content of the other runs' files, by run id. A run of another corpus, split, size, protocol,
            tokenizer, encoder or generated set is left out and named, with what differs.
        damaged: Runs whose file cannot be read, with the reason; they are named too.
    """
    protocol, gap = scores["protocol"], scores["gap"]
    apart = {name: differing_protocol(other["protocol"], protocol) for name, other in others.items()}
    shown = {name: other for name, other in others.items() if not apart[name]} | {run_id: scores}
    left_out = [f"{markdown(name)} ({', '.join(keys)})" for name, keys in sorted(apart.items()) if keys]
    lines = [
        "# Results",
        "",
        f"Corpus {markdown(protocol['corpus'])}, {protocol['image_count']} real images of the "
        f"{markdown(protocol['split'])} split, encoder {markdown(protocol['encoder'])}, "
        f"{protocol['generated_image_count']} images by {markdown(protocol['generator'])}. In brackets: "
        "95 % bootstrap interval over images; one training seed.",
        "",
        *markdown_table(["run", *(title for title, *_ in COLUMNS)], [_row(*one) for one in shown.items()]),
        "",
        "Each run's captioner and text tower (`tuned`) are trained on the run's own features and meet real images "
        "on its real path. A probe AUC of 0.5 means that a linear classifier cannot tell generated from real.",
        f"Before alignment: paired cosine {_cell(gap, 'paired_cosine_before', 3)}, probe AUC "
        f"{_cell(gap, 'probe_auc_before', 3)}, centroid distance {_cell(gap, 'centroid_distance_before', 3)}.",
        *_codec_control(gap),
        *_unavailable(scores),
        *([f"Not comparable, left out: {', '.join(left_out)}."] if left_out else []),
        *(f"Left out: {markdown(name)}, {markdown(reason)}." for name, reason in damaged.items()),
        "",
        f"## Zero-shot, on real images (real path: {_real_path(protocol)})",
        "",
        *markdown_table(["measure", "score [95 %]"], _zero_shot_rows(scores)),
        "",
        _where_to_look(one_line(run_id)),
    ]
    return "\n".join(lines) + "\n"


def _row(run_id: str, scores: Mapping[str, Any]) -> list[str]:
    return [markdown(run_id), *(_cell(scores[group], key, digits) for _, group, key, digits in COLUMNS)]


def _zero_shot_rows(scores: Mapping[str, Any]) -> list[list[str]]:
    keys = [(group, key) for group in ("retrieval", "classification") for key in scores[group]["scores"]]
    return [[markdown(key), _cell(scores[group], key, 1)] for group, key in keys if not key.startswith("tuned_")]


def _cell(group: Mapping[str, Any], key: str, digits: int) -> str:
    value = group["scores"].get(key)
    if value is None:
        return "—"
    interval = group["intervals"].get(key)
    return f"{value:.{digits}f}" + (interval_text(interval["low"], interval["high"], f".{digits}f") if interval else "")


def _codec_control(gap: Mapping[str, Any]) -> list[str]:
    """Returns what is left of the gap when both sides have gone through one codec; nothing for an older run."""
    matched = gap.get("codec_matched")
    if matched is None:
        return []
    before, after = (_cell(matched, f"probe_auc_{when}", 3) for when in ("before", "after"))
    return [
        f"With both sides put through one resize ({matched['codec_size']} px) and JPEG (quality "
        f"{matched['codec_quality']}), so that no codec can tell them apart: probe AUC {before} before alignment, "
        f"{after} after; centroid distance {_cell(matched, 'centroid_distance_before', 3)} and "
        f"{_cell(matched, 'centroid_distance_after', 3)}."
    ]


def _unavailable(scores: Mapping[str, Any]) -> list[str]:
    reasons = scores["captioning"].get("unavailable", {})
    lines = [f"{markdown(name)}: unavailable ({markdown(reason)})" for name, reason in reasons.items()]
    return ["", *lines] if lines else []


def _real_path(protocol: Mapping[str, Any]) -> str:
    path = protocol["real_path"]
    return "frozen teacher, so the same in every such run" if path == "frozen" else f"this run's own, {markdown(path)}"


def _where_to_look(run_id: str) -> str:
    lines = [
        f"scores        data/08_reporting/{run_id}/scores.json",
        f"the gap       data/08_reporting/{run_id}/gap.json  data/08_reporting/{run_id}/spectra.png",
        f"figures       data/08_reporting/{run_id}/pairs.png  data/08_reporting/{run_id}/tsne.png",
        f"adapter       data/06_models/{run_id}/adapter (PEFT)",
        "summary       data/08_reporting/summary.md",
        "compare runs  make ui  (MLflow on http://127.0.0.1:5000)",
        'next          kedro run --pipeline=experiment --params="run_id=rank2,alignment.lora.rank=2"  (and this run\'s '
        "--env, if it had one)",
    ]
    return "\n".join(["## Where to look", "", *(f"    {line}" for line in lines)])
