"""Looks at one machine for what a profile needs: files, tools, GPU and disk. Loads no model, asks no network.

It must be quick and harmless, as it comes before the first hour of a GPU that is paid for: weights are known by their
headers (``models.inventory``), corpora by counts of files, and what it costs is arithmetic on requirements.yml.
"""

import glob
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmail_kedro.models.inventory import KINDS, WeightsFound, find_weights
from gmail_kedro.preflight.requirements import Configuration, Requirements, TableNeeds

GIB, GB = 2**30, 10**9  # memory is sold in the one, disks in the other
Numbers = tuple[int, ...]  # of tables
Tables = Mapping[int, TableNeeds]


@dataclass(frozen=True)
class Finding:
    """One thing that tables need."""

    kind: str  # weights, corpus, tool, gpu or disk
    name: str  # as requirements.yml calls it
    is_here: bool
    detail: str  # where it is, or what is missing and what to do
    tables: Numbers  # that need it
    missing_gb: float = 0.0  # what it takes on disk once it is brought


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
    machine = _Machine(requirements, root, configuration)
    findings = [
        *(machine.find_model(kind, name, by) for (kind, name), by in _users(chosen, TableNeeds.models).items()),
        *(machine.find_corpus(name, by) for name, by in _users(chosen, lambda table: table.corpora).items()),
        *(machine.find_tool(name, by) for name, by in _users(chosen, lambda table: table.tools).items()),
        *_find_gpus(requirements, chosen),
    ]
    return findings + _find_disk(requirements, chosen, findings, root)


def weights_in_folder(requirements: Requirements, name: str, root: Path) -> list[Path]:
    """Returns the files and folders that may be a model's weights in the profile's folder of weights."""
    folder = root / requirements.weights_folder
    return sorted(folder.glob(f"{name}.*")) + sorted(folder.glob(name))


def gpu_hours(requirements: Requirements, tables: Tables) -> float:
    """Returns the expected time of several tables together on one GPU, in hours."""
    return sum(requirements.work[name].gpu_hours * count for name, count in _work_counts(requirements, tables).items())


def disk_gb(requirements: Requirements, tables: Tables) -> float:
    """Returns what the results of several tables together take on disk, in GB."""
    return sum(requirements.work[name].gb * count for name, count in _work_counts(requirements, tables).items())


def _work_counts(requirements: Requirements, tables: Tables) -> dict[str, int]:
    counts = {}
    for name, work in requirements.work.items():
        named = [table.work.get(name, 0) for table in tables.values()]
        # One generated set serves all tables that read it; a run is of one table.
        counts[name] = max(named, default=0) if work.is_shared else sum(named)
    return counts


def _users(tables: Tables, names: Callable[[TableNeeds], Sequence[Any]]) -> dict[Any, Numbers]:
    """Returns by name the tables that need it, in the order of the tables."""
    users: dict[Any, Numbers] = {}
    for number, table in tables.items():
        for name in names(table):
            users[name] = (*users.get(name, ()), number)
    return users


@dataclass(frozen=True)
class _Machine:
    """Where things lie on a machine, and what the profile's parameters say of where to look."""

    requirements: Requirements
    root: Path
    configuration: Configuration

    def find_model(self, kind: str, name: str, users: Numbers) -> Finding:
        facts, found = self.requirements.weights[name], self._weights(kind, name)
        if found.path is not None:
            setting = f"; for kedro run: {KINDS[kind].path_setting}={found.path}" if found.needs_path else ""
            terms = f"; licence: {facts.licence}" if facts.licence else ""
            return Finding("weights", name, True, f"{found.path}{setting}{terms}", users)
        others = [other for other in facts.instead if self._weights(kind, other).path is not None]
        detail = self._how_to_get(found, name)
        if others:
            detail += f" In its place {', '.join(others)} could be used: {KINDS[kind].name_setting}={others[0]}."
        return Finding("weights", name, False, detail, users, facts.gb)

    def _weights(self, kind: str, name: str) -> WeightsFound:
        """Looks where the run's parameters point, in the folder of all weights, in the package and the hub's cache."""
        group, name_key = KINDS[kind].name_setting.split(".")
        _, path_key = KINDS[kind].path_setting.split(".")
        configured = self.configuration(group)
        path = configured.get(path_key) if configured.get(name_key) == name else None  # a path is of one model
        places = [self.root / path] if path else []
        return find_weights(kind, name, places + weights_in_folder(self.requirements, name, self.root))

    def _how_to_get(self, found: WeightsFound, name: str) -> str:
        facts = self.requirements.weights[name]
        looked = f" (looked at {'; '.join(found.looked)})" if found.looked else ""
        detail = f"Put them into {self.requirements.weights_folder}/{name}; from {' or '.join(found.hub_ids)}{looked}."
        if facts.licence:
            detail += f" Licence: {facts.licence}."
        if facts.gated:
            from huggingface_hub import get_token

            login = "a token is here" if get_token() else "no token is here: hf auth login"  # never the token itself
            detail += f" Gated: accept the terms on the hub's page and log in ({login})."
        return detail

    def find_corpus(self, name: str, users: Numbers) -> Finding:
        corpus = self.requirements.corpora[name]
        if corpus.made_by:
            return Finding("corpus", name, True, f"made by: kedro run --pipeline={corpus.made_by}", users)
        counts = {pattern: sum(1 for _ in glob.iglob(pattern, root_dir=self.root)) for pattern in corpus.files}
        short = [
            pattern if count == 0 else f"{pattern} ({count:,} of {corpus.files[pattern]:,})"
            for pattern, count in counts.items()
            if count < corpus.files[pattern]  # more than asked for is no fault: corpora are unpacked whole
        ]
        if short:
            return Finding("corpus", name, False, f"Missing: {', '.join(short)}. From {corpus.home}.", users, corpus.gb)
        return Finding("corpus", name, True, f"{sum(counts.values()):,} files and folders", users)

    def find_tool(self, name: str, users: Numbers) -> Finding:
        from gmail_kedro.metrics.caption_scores import find_obstacle

        obstacles = {"word_vectors": self._word_vectors_obstacle, "nouns": self._nouns_obstacle}
        obstacle = obstacles[name]() if name in obstacles else find_obstacle(name)
        return Finding("tool", name, not obstacle, obstacle or "ready", users)

    def _word_vectors_obstacle(self) -> str:
        vectors = self.configuration("evaluation")["word_vectors"]
        if vectors is None:
            return "evaluation.word_vectors is null: no word mover's similarity. Name a word2vec or GloVe file, or own."
        if vectors == "own" or (self.root / vectors).is_file():
            return ""
        return f"There are no word vectors at '{vectors}'. Put a word2vec or GloVe file there, or give own."

    def _nouns_obstacle(self) -> str:
        from gmail_kedro.models.captioners.nouns import absent_nltk_data

        ifcap = self.configuration("ifcap")
        if ifcap["vocabulary"] is not None and not (self.root / ifcap["vocabulary"]).is_file():
            return f"There is no vocabulary of nouns at '{ifcap['vocabulary']}' (ifcap.vocabulary)."
        absent = absent_nltk_data() if ifcap["nouns"] == "nltk" else []
        if not absent:
            return ""
        return (
            f"NLTK's data {absent} is not on this machine: python -m nltk.downloader {' '.join(absent)}; or "
            "ifcap.nouns=textblob, which needs no data."
        )


def _find_gpus(requirements: Requirements, tables: Tables) -> list[Finding]:
    """Returns one finding for each size of GPU memory that tables need."""
    need = {
        number: max((requirements.work[name].gpu_gib for name in table.work), default=0.0)
        for number, table in tables.items()
    }
    here = _gpus()
    findings = []
    for gib in sorted({gib for gib in need.values() if gib > 0}):
        users = tuple(number for number, needed in need.items() if needed == gib)
        fits = [words for words, size in here if size >= gib]
        detail = ", ".join(fits) or f"None with {gib:g} GiB; torch sees {', '.join(w for w, _ in here) or 'no GPU'}."
        findings.append(Finding("gpu", f"{gib:g} GiB", bool(fits), detail, users))
    return findings


def _gpus() -> list[tuple[str, float]]:
    """Returns name and memory in GiB of every GPU."""
    import torch

    cards = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
    return [(f"{card.name} ({card.total_memory / GIB:.0f} GiB)", card.total_memory / GIB) for card in cards]


def _find_disk(requirements: Requirements, tables: Tables, findings: Sequence[Finding], root: Path) -> list[Finding]:
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
