"""The words at the end of a run: scores beside the other runs, where things lie, what to do next."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from gmail_kedro.reporting.plain_text import markdown, one_line

COMPARABLE = (
    "corpus", "split", "image_count", "retrieval_protocol", "caption_tokenizer", "encoder", "generated_set"
)  # fmt: skip
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
    protocol = scores["protocol"]
    apart = {name: differing_protocol(other["protocol"], protocol) for name, other in others.items()}
    comparable = {name: other for name, other in others.items() if not apart[name]}
    strangers = [f"{markdown(name)} ({', '.join(keys)})" for name, keys in sorted(apart.items()) if keys]
    lines = [
        "# Results",
        "",
        f"Corpus {markdown(protocol['corpus'])}, {protocol['image_count']} real images of the "
        f"{markdown(protocol['split'])} split, encoder {markdown(protocol['encoder'])}, "
        f"{protocol['generated_image_count']} images by {markdown(protocol['generator'])}. In brackets: "
        "95 % bootstrap interval over images; one training seed.",
        "",
        _captioning_table(comparable | {run_id: scores}),
        "",
        "Each run's captioner and text tower (`tuned`) are trained on the run's own features and meet real images "
        "on its real path. A probe AUC of 0.5 means that a linear classifier cannot tell generated from real.",
        f"Before alignment: paired cosine {_cell(scores['gap'], 'paired_cosine_before', 3)}, probe AUC "
        f"{_cell(scores['gap'], 'probe_auc_before', 3)}, centroid distance "
        f"{_cell(scores['gap'], 'centroid_distance_before', 3)}.",
        *_codec_control(scores["gap"]),
        *_unavailable(scores),
        *([f"Not comparable, left out: {', '.join(strangers)}."] if strangers else []),
        *(f"Left out: {markdown(name)}, {markdown(reason)}." for name, reason in damaged.items()),
        "",
        f"## Zero-shot, on real images (real path: {_real_path(protocol)})",
        "",
        _zero_shot_table(scores),
    ]
    return "\n".join(lines) + "\n\n" + where_to_look(run_id) + "\n"


def differing_protocol(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Returns in what two runs were measured differently; numbers of such runs do not belong into one column.

    Args:
        first: The ``protocol`` of one run's ``scores.json``.
        second: That of the other.
    """
    return [key for key in COMPARABLE if first.get(key) != second.get(key)]


def where_to_look(run_id: str) -> str:
    """Returns the closing lines: where the results of a run lie and which command comes next."""
    run_id = one_line(run_id)
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


def _real_path(protocol: Mapping[str, Any]) -> str:
    path = protocol["real_path"]
    return "frozen teacher, so the same in every such run" if path == "frozen" else f"this run's own, {markdown(path)}"


def _captioning_table(all_scores: Mapping[str, Mapping[str, Any]]) -> str:
    lines = [
        "| run | " + " | ".join(title for title, *_ in COLUMNS) + " |",
        "|---|" + "---|" * len(COLUMNS),
    ]
    for run_id, scores in all_scores.items():
        cells = [_cell(scores[group], key, digits) for _, group, key, digits in COLUMNS]
        lines.append(f"| {markdown(run_id)} | " + " | ".join(cells) + " |")
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
        keys = [key for key in scores[group]["scores"] if not key.startswith("tuned_")]
        lines += [f"| {markdown(key)} | {_cell(scores[group], key, 1)} |" for key in keys]
    return "\n".join(lines)


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
    return (
        ["", *(f"{markdown(name)}: unavailable ({markdown(reason)})" for name, reason in reasons.items())]
        if reasons
        else []
    )
