"""The generated sets that a profile declares in sets.yml: what each changes of the parameters, and making one."""

from typing import Any

from gmail_kedro.commands import runs
from gmail_kedro.commands.project import Project
from gmail_kedro.commands.weights import OF_A_SET, find_paths
from gmail_kedro.configuration.settings_text import nest, parse_settings


def find_set(project: Project, name: str) -> dict[str, Any]:
    """Returns what a set changes, by names with dots: its name, its own settings, and where its weights lie.

    Args:
        project: The project.
        name: A key of ``sets`` in ``sets.yml``.

    Raises:
        ValueError: If there is none of that name; lists those there are.
    """
    declared = project.define("sets")["sets"]
    if name not in declared:
        raise ValueError(f"The profile {project.profile} has no set {name!r} (sets.yml). Known: {list(declared)}.")
    params = declared[name].get("params") or {}
    settings = parse_settings(params) if isinstance(params, str) else params
    return {"set": name} | settings | find_paths(project, settings, OF_A_SET)


def make_set(project: Project, name: str) -> None:
    """Makes a declared set, or goes on with one that is not whole.

    Args:
        project: The project.
        name: See ``find_set``.

    Raises:
        ValueError: If there is none of that name; lists those there are.
    """
    runs.run_pipelines(project, ["generation"], nest(find_set(project, name)))


def make_command(project: Project, name: str) -> str:
    """Returns the command that makes a declared set."""
    return f"gmail-kedro set make {name}{project.option}"
