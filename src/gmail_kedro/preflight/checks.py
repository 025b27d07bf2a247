"""Looks at one machine for what a profile needs: files, tools, GPU and disk. Loads no model, asks no network."""

import glob
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmail_kedro.models.inventory import KINDS, WeightsFound, find_weights
from gmail_kedro.preflight.requirements import Configuration, CorpusFiles, Requirements, TableNeeds, Work

GIB = 2**30
GB = 10**9
Users = dict[Any, tuple[int, ...]]  # the tables that need a thing, by the thing


@dataclass(frozen=True)
class Finding:
    """One thing that tables need.

    Attributes:
        kind: ``weights``, ``corpus``, ``tool``, ``gpu`` or ``disk``.
        name: What it is called in ``requirements.yml``.
        is_here: Whether it is on this machine.
        detail: Where it is, or what is missing and what to do.
        tables: The tables that need it.
        missing_gb: What it would take on disk once it is brought, in GB.
    """

    kind: str
    name: str
    is_here: bool
    detail: str
    tables: tuple[int, ...]
    missing_gb: float = 0.0


def check_machine(
    requirements: Requirements, tables: Sequence[int], root: Path, configuration: Configuration
) -> list[Finding]:
    """Returns everything that tables need, with whether it is here.

    Raises:
        ValueError: If a number is no table of the profile; lists those there are.
    """
    if unknown := [number for number in tables if number not in requirements.tables]:
        raise ValueError(f"There is no table {unknown} in the profile. Known tables: {sorted(requirements.tables)}.")
    chosen = {number: requirements.tables[number] for number in tables}
    models = _users(chosen, TableNeeds.models)
    findings = [
        _weights(requirements, kind, name, root, configuration, users) for (kind, name), users in models.items()
    ]
    corpora = _users(chosen, lambda table: table.corpora)
    findings += [_corpus(name, requirements.corpora[name], root, users) for name, users in corpora.items()]
    tools = _users(chosen, lambda table: table.tools)
    findings += [_tool(name, root, configuration, users) for name, users in tools.items()]
    findings += _gpu(requirements, chosen)
    return findings + _disk(requirements, chosen, findings, root)


def weights_in_folder(requirements: Requirements, name: str, root: Path) -> list[Path]:
    """Returns the files and folders that may be a model's weights in the profile's folder of weights."""
    folder = root / requirements.weights_folder
    return sorted(folder.glob(f"{name}.*")) + sorted(folder.glob(name))


def gpu_hours(requirements: Requirements, tables: Mapping[int, TableNeeds]) -> float:
    """Returns the expected time of several tables together on one GPU, in hours."""
    counts = _work_counts(requirements, tables)
    return sum(requirements.work[name].gpu_hours * count for name, count in counts.items())


def disk_gb(requirements: Requirements, tables: Mapping[int, TableNeeds]) -> float:
    """Returns what the results of several tables together take on disk, in GB."""
    counts = _work_counts(requirements, tables)
    return sum(requirements.work[name].gb * count for name, count in counts.items())


def _work_counts(requirements: Requirements, tables: Mapping[int, TableNeeds]) -> dict[str, int]:
    """Returns how often each piece of work is done for the tables together."""
    counts = {}
    for name, work in requirements.work.items():
        named = [table.work.get(name, 0) for table in tables.values()]
        counts[name] = max(named, default=0) if work.is_shared else sum(named)
    return counts


def _users(tables: Mapping[int, TableNeeds], names: Callable[[TableNeeds], Sequence[Any]]) -> Users:
    """Returns by name the tables that need it, in the order of the tables."""
    users: Users = {}
    for number, table in tables.items():
        for name in names(table):
            users[name] = (*users.get(name, ()), number)
    return users


def _weights(
    requirements: Requirements,
    kind: str,
    name: str,
    root: Path,
    configuration: Configuration,
    users: tuple[int, ...],
) -> Finding:
    facts = requirements.weights[name]

    def look(other: str) -> WeightsFound:
        return find_weights(kind, other, _local(requirements, kind, other, root, configuration))

    found = look(name)
    if found.path is not None:
        setting = f"; for kedro run: {KINDS[kind].path_setting}={found.path}" if found.needs_path else ""
        terms = f"; licence: {facts.licence}" if facts.licence else ""
        return Finding("weights", name, True, f"{found.path}{setting}{terms}", users)
    others = [other for other in facts.instead if look(other).path is not None]
    detail = _how_to_get(found, requirements, name)
    if others:
        detail += f" In its place {', '.join(others)} could be used: {KINDS[kind].name_setting}={others[0]}."
    return Finding("weights", name, False, detail, users, facts.gb)


def _local(requirements: Requirements, kind: str, name: str, root: Path, configuration: Configuration) -> list[Path]:
    """Returns where weights may lie beside the package and the hub's cache: as configured, and in the folder of all."""
    settings = [KINDS[kind].name_setting, KINDS[kind].path_setting]
    (group, name_key), (_, path_key) = (setting.split(".") for setting in settings)
    configured = configuration(group)
    path = configured.get(path_key) if configured.get(name_key) == name else None
    return ([root / path] if path else []) + weights_in_folder(requirements, name, root)


def _how_to_get(found: WeightsFound, requirements: Requirements, name: str) -> str:
    facts = requirements.weights[name]
    looked = f" (looked at {'; '.join(found.looked)})" if found.looked else ""
    detail = f"Put them into {requirements.weights_folder}/{name}; from {' or '.join(found.hub_ids)}{looked}."
    if facts.licence:
        detail += f" Licence: {facts.licence}."
    if facts.gated:
        from huggingface_hub import get_token

        login = "a token is here" if get_token() else "no token is here: hf auth login"
        detail += f" Gated: accept the terms on the hub's page and log in ({login})."
    return detail


def _corpus(name: str, corpus: CorpusFiles, root: Path, users: tuple[int, ...]) -> Finding:
    if corpus.made_by:
        return Finding("corpus", name, True, f"made by: kedro run --pipeline={corpus.made_by}", users)
    counts = {pattern: _count(root, pattern) for pattern in corpus.files}
    short = [
        pattern if count == 0 else f"{pattern} ({count:,} of {corpus.files[pattern]:,})"
        for pattern, count in counts.items()
        if count < corpus.files[pattern]
    ]
    if short:
        return Finding("corpus", name, False, f"Missing: {', '.join(short)}. From {corpus.home}.", users, corpus.gb)
    return Finding("corpus", name, True, f"{sum(counts.values()):,} files and folders", users)


def _count(root: Path, pattern: str) -> int:
    return sum(1 for _ in glob.iglob(pattern, root_dir=root))


def _tool(tool: str, root: Path, configuration: Configuration, users: tuple[int, ...]) -> Finding:
    checks = {"word_vectors": _word_vectors_obstacle, "nouns": _nouns_obstacle}
    if tool in checks:
        obstacle = checks[tool](root, configuration)
    else:
        from gmail_kedro.metrics.caption_scores import find_obstacle

        obstacle = find_obstacle(tool)
    return Finding("tool", tool, not obstacle, obstacle or "ready", users)


def _word_vectors_obstacle(root: Path, configuration: Configuration) -> str:
    vectors = configuration("evaluation")["word_vectors"]
    if vectors is None:
        return "evaluation.word_vectors is null: no word mover's similarity. Name a word2vec or GloVe file, or own."
    if vectors == "own" or (root / vectors).is_file():
        return ""
    return f"There are no word vectors at '{vectors}'. Put a word2vec or GloVe file there, or give own."


def _nouns_obstacle(root: Path, configuration: Configuration) -> str:
    from gmail_kedro.models.captioners.nouns import absent_nltk_data

    ifcap = configuration("ifcap")
    if ifcap["vocabulary"] is not None and not (root / ifcap["vocabulary"]).is_file():
        return f"There is no vocabulary of nouns at '{ifcap['vocabulary']}' (ifcap.vocabulary)."
    absent = absent_nltk_data() if ifcap["nouns"] == "nltk" else []
    if not absent:
        return ""
    return (
        f"NLTK's data {absent} is not on this machine: python -m nltk.downloader {' '.join(absent)}; or "
        "ifcap.nouns=textblob, which needs no data."
    )


def _gpu(requirements: Requirements, tables: Mapping[int, TableNeeds]) -> list[Finding]:
    """Returns one finding for each size of GPU memory that tables need."""
    need = {number: _largest(requirements.work, table) for number, table in tables.items()}
    here = _gpus()
    findings = []
    for gib in sorted({gib for gib in need.values() if gib > 0}):
        users = tuple(number for number, needed in need.items() if needed == gib)
        fits = [words for words, size in here if size >= gib]
        detail = ", ".join(fits) or f"None with {gib:g} GiB; torch sees {', '.join(w for w, _ in here) or 'no GPU'}."
        findings.append(Finding("gpu", f"{gib:g} GiB", bool(fits), detail, users))
    return findings


def _largest(work: Mapping[str, Work], table: TableNeeds) -> float:
    return max((work[name].gpu_gib for name in table.work), default=0.0)


def _gpus() -> list[tuple[str, float]]:
    """Returns name and memory in GiB of every GPU."""
    import torch

    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [(f"{card.name} ({card.total_memory / GIB:.0f} GiB)", card.total_memory / GIB) for card in cards]


def _disk(
    requirements: Requirements, tables: Mapping[int, TableNeeds], findings: Sequence[Finding], root: Path
) -> list[Finding]:
    """Returns which tables fit on the disk, each by itself, with what is to be brought and to be made for it."""
    free = shutil.disk_usage(root).free / GB
    need = {}
    for number, table in tables.items():
        brought = sum(finding.missing_gb for finding in findings if number in finding.tables)
        need[number] = brought + disk_gb(requirements, {number: table})
    result = []
    for fits in (True, False):
        users = tuple(number for number, needed in need.items() if (free >= needed) == fits)
        if users:
            takes = ", ".join(f"{number}: {need[number]:,.0f}" for number in users)
            detail = f"{free:,.0f} GB are free. GB to be brought and made, by table, each by itself: {takes}."
            result.append(Finding("disk", "space", fits, detail, users))
    return result
