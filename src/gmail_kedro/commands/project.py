"""Where the project is and how a profile configures it."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from gmail_kedro.configuration.params_option import nest, parse_settings
from gmail_kedro.definitions import read_definitions
from gmail_kedro.params.base import unknown_name
from gmail_kedro.params.run_names import check_name

BASE = "base"
env_option = click.option("--env", default=None, help="the profile in conf/, as in kedro run --env")
params_option = click.option("--params", default="", help="as in kedro run --params")
DEFINED_IN = {"run": ("experiments", "runs"), "set": ("sets", "sets"), "study": ("study", "")}  # file, section in it
# Where the catalog has its sets, pairs, models and reports; a folder in each for every set or run.
SETS, PAIRS = Path("data/02_intermediate"), Path("data/03_primary")
MODELS, REPORTS = Path("data/06_models"), Path("data/08_reporting")


class Project:
    """A Kedro project in one profile, ``env`` as in ``kedro run --env``, with runtime parameters, nested.

    Commands ask it and no Kedro session: a session starts MLflow, and is for one run.
    """

    def __init__(self, root: Path, env: str | None = None, parameters: Mapping[str, Any] | None = None) -> None:
        self.root, self.env, self._parameters = root, env, dict(parameters or {})
        # Definitions are asked for by every cell of a table; each reading composes all files of the profile.
        self._defined: dict[str, dict[str, Any]] = {}

    @property
    def profile(self) -> str:
        """The profile's name: the folder in ``conf/``."""
        return self.env or BASE

    @property
    def option(self) -> str:
        """What a command line says to be in this profile, with a space before it; nothing for the default."""
        return f" --env {self.env}" if self.env else ""

    @property
    def reproduction(self) -> str:
        """Name of the folders in which the reproduction's runs lie."""
        return self._globals["reproduction"]

    def folder(self, name: str) -> Path:
        """Returns the folder of a set, from its name or its path.

        Raises:
            ParameterError: If it is neither.
        """
        if "/" in name:  # the same words for a set that was copied or fetched to elsewhere
            return Path(name)
        check_name("the set", name)
        return self.root / SETS / name

    def define(self, file: str) -> dict[str, Any]:
        """Returns what a file of definitions says in this profile; see ``definitions``."""
        if file not in self._defined:
            self._defined[file] = read_definitions(self._loader, file)
        return self._defined[file]

    def group(self, name: str) -> dict[str, Any]:
        """Returns a group of parameters as ``kedro run`` would compose it."""
        return self._loader["parameters"][name]

    def tracking(self) -> dict[str, Any]:
        """Returns the settings of MLflow."""
        return dict(self._loader["mlflow"])

    @property
    def default_set(self) -> str:
        """The generated set of runs that name none."""
        return self._globals["set"]

    def corpus(self) -> Any:
        """Returns the corpus of the catalog.

        Raises:
            DatasetError: If it is not there.
        """
        from kedro.io import DataCatalog

        # By itself: other entries of the catalog may name files that a command on sets does not need.
        return DataCatalog.from_config({"corpus": self._loader["catalog"]["corpus"]}).load("corpus")

    @cached_property
    def _globals(self) -> dict[str, Any]:
        return dict(self._loader["globals"])

    @cached_property
    def _loader(self) -> Any:
        from gmail_kedro.configuration.loader import LOADER_ARGUMENTS, ProfileLoader

        return ProfileLoader(str(self.root / "conf"), env=self.env, runtime_params=self._parameters, **LOADER_ARGUMENTS)


def find_root() -> Path:
    """Returns the project's folder: the working directory or one of its parents.

    Raises:
        FileNotFoundError: If none of them holds a Kedro project.
    """
    from kedro.utils import find_kedro_project

    root = find_kedro_project(Path.cwd())
    if root is None:
        raise FileNotFoundError("No Kedro project here. Change into the folder that holds pyproject.toml and conf/.")
    return Path(root)


def choose(project: Project, kind: str, name: str) -> Any:
    """Returns what a profile defines by a name, of a kind that ``DEFINED_IN`` has.

    Raises:
        ParameterError: If there is none of that name; says which one is close, or which there are.
    """
    file, section = DEFINED_IN[kind]
    known = project.define(file)[section] if section else project.define(file)
    if name not in known:
        raise unknown_name(f"Profile {project.profile}, {file}.yml: ", name, known)
    return known[name]


def open_project(env: str | None = None, params: str = "") -> Project:
    """Returns the project of the working directory, with parameters as after ``kedro run --params``.

    Raises:
        FileNotFoundError: As ``find_root``.
        ParameterError: If the parameters cannot be read.
    """
    return Project(find_root(), env, nest(parse_settings(params)))
