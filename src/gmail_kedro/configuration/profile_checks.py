"""A profile's files and runtime parameters, held against what there is: a misspelt name would be ignored otherwise.

Kedro and OmegaConf merge whatever keys they find. So every key of every file is held against the names that it may
have, and every value against its setting, before a run, with the file, the key and the name that is close to it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from gmail_kedro.configuration.files import REFERENCE, leaves, read_file
from gmail_kedro.configuration.parameter_groups import GROUPS, SETTINGS
from gmail_kedro.configuration.params_option import parse_settings
from gmail_kedro.definitions import FILES
from gmail_kedro.params.base import ParameterError, unknown_name
from gmail_kedro.params.run_names import check_name, check_run_id

GLOBALS = ("run_id", "set", "baseline", "reproduction", "tables", "report")
NAMES = ("run_id", "set", "baseline")
OTHER_FOLDERS = ("study", "sets", "pretraining")  # beside the runs' own; a profile's tables and report are too
OTHER_SETS = ("tar_index",)
PATTERNS = ("globals.yml", "**/parameters*.y*ml", "**/catalog*.y*ml", *(f"{name}.yml" for name in FILES))
OF_A_RUN = ("set", "starts_from", "pipelines", "like")
OF_A_STUDY = ("pipelines", "baseline", "seeds", "columns", "shared", "variants", "models_of")


class Profile:
    """What the files of a profile say, and the names that may stand in them.

    Args:
        files: Contents by the file's name as messages show it, such as ``conf/base/globals.yml``; base comes first.
    """

    def __init__(self, files: Mapping[str, Mapping[str, Any]]) -> None:
        self._files = files
        names = [key for _, content in self.named("globals") for key in content.items()]
        #: Names of folders beside those of the runs, in which something else lies.
        self.folders = {str(value) for key, value in names if key in GLOBALS and key not in NAMES}
        self.runs = {str(run) for _, content in self.named("experiments") for run in content.get("runs") or ()}

    @cached_property
    def catalog_settings(self) -> set[str]:
        """Names that the catalog takes from the command line, beside those of the folders."""
        return self._references("runtime_params") - set(NAMES)

    @cached_property
    def global_names(self) -> set[str]:
        """Keys that ``globals.yml`` may have: the project's own, and what the profile's files refer to."""
        return self._references("globals") | set(GLOBALS)

    def named(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yields the files of a kind (``globals``, ``parameters``, …) with what they say."""
        return ((file, content) for file, content in self._files.items() if Path(file).name.startswith(kind))

    def _references(self, resolver: str) -> set[str]:
        values = [value for content in self._files.values() for _, value in leaves(content) if isinstance(value, str)]
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
            check(here, f"{file}: ", content)
    _check_nested(here, "--params: ", runtime_parameters)


def _mapping(where: str, content: Any, known: Collection[str] | None = None) -> Mapping[str, Any]:
    """Returns a mapping, empty for null, whose keys are all known."""
    if not isinstance(content, dict | None):
        raise ParameterError(
            f"{where.removesuffix(': ')} must be a mapping. Got {content!r} instead. On the command line "
            "each of its keys is set by itself, with dots before its name: alignment.lora.rank=2"
        )
    for key in content or {} if known is not None else ():
        _refuse_unknown(where, key, known or ())
    return content or {}


def _check_globals(profile: Profile, where: str, content: Mapping[str, Any]) -> None:
    for key, value in _mapping(where, content, profile.global_names).items():
        if key in GLOBALS:
            check_name(f"{where}{key}", value, taken=(*OTHER_FOLDERS, *profile.folders) if key in NAMES else ())


def _check_parameters(profile: Profile, where: str, content: Mapping[str, Any]) -> None:
    for name in NAMES:
        if name in content and content[name] != f"${{globals:{name}}}":
            raise ParameterError(
                f"{where}{name} must be said in globals.yml of the profile. Got {content[name]!r} here."
            )
    _check_nested(profile, where, {key: value for key, value in content.items() if key not in NAMES})


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


def _check_experiments(profile: Profile, where: str, content: Mapping[str, Any]) -> None:
    for name in content.get("demo") or ():
        _refuse_unknown(f"{where}demo: ", name, profile.runs)
    for name, row in _mapping(f"{where}runs", content.get("runs")).items():
        check_name(f"{where}the name of a run", name, dots=False)
        _check_row(profile, f"{where}runs.{name}: ", row, OF_A_RUN)
        for key in {"starts_from", "like"} & (row or {}).keys():
            _refuse_unknown(f"{where}runs.{name}.{key}: ", row[key], profile.runs)
    for key in content.keys() - {"demo", "runs"}:  # rows that others are made of by anchors
        _check_row(profile, f"{where}{key}: ", content[key], OF_A_RUN)


def _check_sets(profile: Profile, where: str, content: Mapping[str, Any]) -> None:
    sets = _mapping(where, content, ("sets",)).get("sets")
    for name, declared in _mapping(f"{where}sets", sets).items():
        check_name(f"{where}the name of a set", name, taken=OTHER_SETS, dots=False)
        params = _mapping(f"{where}sets.{name}: ", declared, ("weights", "params")).get("params")
        row = parse_settings(params) if isinstance(params, str) else params
        _check_row(profile, f"{where}sets.{name}.params: ", row)


def _check_study(profile: Profile, where: str, content: Mapping[str, Any]) -> None:
    for study, entries in content.items():
        check_name(f"{where}the name of a study", study, dots=False)
        here = f"{where}{study}"
        said = _mapping(f"{here}: ", entries, OF_A_STUDY)
        _check_seeds(f"{here}.seeds", said.get("seeds", []))
        _check_row(profile, f"{here}.shared: ", said.get("shared"), ("set",))
        variants = _mapping(f"{here}.variants", said.get("variants"))
        for variant, row in variants.items():
            check_name(f"{here}: the name of a variant", variant, dots=False)
            _check_row(profile, f"{here}.variants.{variant}: ", row, ("set", "like"))
            if "like" in (row or {}):
                _refuse_unknown(f"{here}.variants.{variant}.like: ", row["like"], profile.runs)
        if "baseline" in said:
            _refuse_unknown(f"{here}.baseline: ", said["baseline"], variants)


def _check_seed_list(_: Profile, where: str, content: Mapping[str, Any]) -> None:
    _check_seeds(f"{where}seeds", _mapping(where, content, ("seeds",)).get("seeds", []))


def _check_seeds(where: str, seeds: Any) -> None:
    # type() and not isinstance: Python counts true among the integers
    if not (isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)):
        raise ParameterError(f"{where} must be a list of integers, 0 or greater. Got {seeds!r} instead.")


def _check_row(profile: Profile, where: str, row: Any, beside: Collection[str] = ()) -> None:
    """Refuses a row of settings by their names with dots; ``beside`` them it may have keys of its own."""
    for name, value in _mapping(where, row, {*SETTINGS, *profile.catalog_settings, *beside}).items():
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
