"""A profile's files and runtime parameters, held against what there is: a misspelt name would be ignored otherwise."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from gmail_kedro.configuration.files import REFERENCE, leaves, read_file
from gmail_kedro.configuration.settings_text import parse_settings
from gmail_kedro.definitions import FILES
from gmail_kedro.params.base import ParameterError, unknown_name
from gmail_kedro.params.groups import GROUPS, SETTINGS
from gmail_kedro.params.names import check_name, check_run_id

GLOBALS = ("run_id", "set", "baseline", "reproduction", "tables", "report")
NAMES = ("run_id", "set", "baseline")
OTHER_FOLDERS = ("study", "sets", "pretraining")  # beside the runs' own; a profile's tables and report are too
OTHER_SETS = ("tar_index",)
PATTERNS = ("globals.yml", "**/parameters*.y*ml", "**/catalog*.y*ml", *(f"{name}.yml" for name in FILES))
OF_A_RUN = ("set", "starts_from", "pipelines", "like")
OF_A_SET = ("weights", "params")
OF_A_STUDY = ("pipelines", "done_when", "baseline", "seeds", "columns", "shared", "variants", "models_of")
OF_EXPERIMENTS = ("demo", "reproduce", "runs")


@dataclass(frozen=True)
class Profile:
    """What the files of a profile say, and the names that may stand in them.

    Attributes:
        files: Contents by the file's name as messages show it, such as ``conf/base/globals.yml``; base comes first.
    """

    files: Mapping[str, Mapping[str, Any]]

    @cached_property
    def catalog_settings(self) -> set[str]:
        """Names that the catalog takes from the command line, beside those of the folders."""
        return self._references("runtime_params") - set(NAMES)

    @cached_property
    def global_names(self) -> set[str]:
        """Keys that ``globals.yml`` may have: the project's own, and what the profile's files refer to."""
        return self._references("globals") | set(GLOBALS)

    @cached_property
    def runs(self) -> set[str]:
        """Names of the runs."""
        return {str(run) for _, content in self.named("experiments") for run in content.get("runs") or ()}

    @cached_property
    def folders(self) -> set[str]:
        """Names of folders beside those of the runs, in which something else lies."""
        own = ("reproduction", "tables", "report")
        return {str(content[key]) for _, content in self.named("globals") for key in own if key in content}

    def named(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields the files of a kind (``globals``, ``parameters``, …) with what they say."""
        return ((file, content) for file, content in self.files.items() if Path(file).name.startswith(kind))

    def _references(self, resolver: str) -> set[str]:
        values = [value for content in self.files.values() for _, value in leaves(content) if isinstance(value, str)]
        found = (match for value in values for match in REFERENCE.finditer(value))
        return {match["name"] for match in found if match["resolver"] == resolver}


def check_profile(conf: Path, profile: str, runtime_parameters: Mapping[str, Any]) -> None:
    """Refuses files and runtime parameters that name what is not there, or give it a value that it cannot have.

    Args:
        conf: The folder of the profiles.
        profile: The one that is run; ``base`` is under it.
        runtime_parameters: What the command changes, nested.

    Raises:
        ParameterError: At the first of them; names the file and the key, or the setting, and what is close to it.
    """
    paths = (
        path for name in dict.fromkeys(("base", profile)) for key in PATTERNS for path in conf.glob(f"{name}/{key}")
    )
    shown = {path.relative_to(conf.parent).as_posix(): path for path in sorted(paths, key=lambda path: path.name)}
    here = Profile({name: _mapping(name, read_file(path, name)) for name, path in shown.items()})
    for kind, check in _CHECKS.items():
        for file, content in here.named(kind):
            check(here, file, content)
    _check_nested(here, "--params: ", runtime_parameters)


def _mapping(where: str, content: Any) -> Mapping[str, Any]:
    if not isinstance(content, dict | None):
        raise ParameterError(f"{where} must be a mapping. Got {content!r} instead.")
    return content or {}


def _check_globals(profile: Profile, file: str, content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        _refuse_unknown(f"{file}: ", key, profile.global_names)
        if key in GLOBALS:
            check_name(f"{file}: {key}", value, taken=(*OTHER_FOLDERS, *profile.folders) if key in NAMES else ())


def _check_parameters(profile: Profile, file: str, content: Mapping[str, Any]) -> None:
    for name in NAMES:
        if name in content and content[name] != f"${{globals:{name}}}":
            raise ParameterError(
                f"{file}: {name} must be said in globals.yml of the profile. Got {content[name]!r} here."
            )
    _check_nested(profile, f"{file}: ", {key: value for key, value in content.items() if key not in NAMES})


def _check_nested(profile: Profile, where: str, settings: Mapping[str, Any]) -> None:
    taken = (*OTHER_FOLDERS, *profile.folders)
    for name, value in settings.items():
        if name in ("run_id", "baseline"):
            check_run_id(f"{where}{name}", value, taken=taken)
        elif name == "set":
            check_name(f"{where}set", value, taken=OTHER_SETS)
        elif name in GROUPS:
            _check_row(profile, where, dict(_settings_of(where, name, value)))
        else:
            _refuse_unknown(where, name, {*GROUPS, *NAMES, *profile.catalog_settings}, also=SETTINGS)


def _settings_of(where: str, name: str, content: Any) -> Iterator[tuple[str, Any]]:
    """Yields the values of a group, and of the groups in it, by their names with dots."""
    for key, value in _mapping(f"{where}{name}", content).items():
        inner = f"{name}.{key}"
        if any(setting.startswith(f"{inner}.") for setting in SETTINGS):
            yield from _settings_of(where, inner, value)
        else:
            yield inner, value


def _check_experiments(profile: Profile, file: str, content: Mapping[str, Any]) -> None:
    runs = profile.runs
    lists = {"demo": content.get("demo") or [], **_mapping(f"{file}: reproduce", content.get("reproduce"))}
    for key, names in lists.items():
        for name in names:
            _refuse_unknown(f"{file}: {key}: ", name, runs)
    for name, row in _mapping(f"{file}: runs", content.get("runs")).items():
        check_name(f"{file}: the name of a run", name, dots=False)
        _check_row(profile, f"{file}: runs.{name}: ", row, OF_A_RUN)
        for key in ("starts_from", "like"):
            if key in (row or {}):
                _refuse_unknown(f"{file}: runs.{name}.{key}: ", row[key], runs)
    for key, row in content.items():  # rows that others are made of by anchors
        if key not in OF_EXPERIMENTS:
            _check_row(profile, f"{file}: {key}: ", row, OF_A_RUN)


def _check_sets(profile: Profile, file: str, content: Mapping[str, Any]) -> None:
    for key in content:
        _refuse_unknown(f"{file}: ", key, ("sets",))
    for name, declared in _mapping(f"{file}: sets", content.get("sets")).items():
        check_name(f"{file}: the name of a set", name, taken=OTHER_SETS, dots=False)
        for key in _mapping(f"{file}: sets.{name}", declared):
            _refuse_unknown(f"{file}: sets.{name}: ", key, OF_A_SET)
        params = (declared or {}).get("params") or {}
        where = f"{file}: sets.{name}.params: "
        _check_row(profile, where, parse_settings(params) if isinstance(params, str) else params)


def _check_study(profile: Profile, file: str, content: Mapping[str, Any]) -> None:
    for study, entries in content.items():
        check_name(f"{file}: the name of a study", study, dots=False)
        where = f"{file}: {study}"
        for key in _mapping(where, entries):
            _refuse_unknown(f"{where}: ", key, OF_A_STUDY)
        _check_seeds(f"{where}.seeds", (entries or {}).get("seeds", []))
        _check_row(profile, f"{where}.shared: ", (entries or {}).get("shared"), ("set",))
        variants = _mapping(f"{where}.variants", (entries or {}).get("variants"))
        for variant, row in variants.items():
            check_name(f"{where}: the name of a variant", variant, dots=False)
            _check_row(profile, f"{where}.variants.{variant}: ", row, ("set",))
        if entries and "baseline" in entries:
            _refuse_unknown(f"{where}.baseline: ", entries["baseline"], variants)


def _check_seed_list(_: Profile, file: str, content: Mapping[str, Any]) -> None:
    for key in content:
        _refuse_unknown(f"{file}: ", key, ("seeds",))
    _check_seeds(f"{file}: seeds", content.get("seeds", []))


def _check_seeds(where: str, seeds: Any) -> None:
    good = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not good:
        raise ParameterError(f"{where} must be a list of integers, 0 or greater. Got {seeds!r} instead.")


def _check_row(profile: Profile, where: str, row: Any, beside: Collection[str] = ()) -> None:
    """Refuses a row of settings by their names with dots; ``beside`` them it may have keys of its own."""
    known = {*SETTINGS, *profile.catalog_settings, *beside}
    for name, value in _mapping(where.removesuffix(": "), row).items():
        _refuse_unknown(where, name, known)
        if name == "set":
            check_name(f"{where}set", value, taken=OTHER_SETS, dots=False)
        elif name in SETTINGS and not (isinstance(value, str) and REFERENCE.search(value)):
            _check_value(where, name, value)


def _check_value(where: str, name: str, value: Any) -> None:
    group, setting = SETTINGS[name]
    try:
        group.check_value(setting, value)
    except ParameterError as error:
        raise ParameterError(f"{where}{error}") from None


def _refuse_unknown(where: str, name: Any, known: Collection[str], *, also: Collection[str] = ()) -> None:
    """Refuses a name that is not known, and says which ones are close to it, among the known ones and others."""
    if name not in known:
        raise unknown_name(where, name, known, also=also)


_CHECKS: dict[str, Callable[[Profile, str, Mapping[str, Any]], None]] = {
    "globals": _check_globals,
    "parameters": _check_parameters,
    "experiments": _check_experiments,
    "sets": _check_sets,
    "seeds": _check_seed_list,
    "study": _check_study,
}
