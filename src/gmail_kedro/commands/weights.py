"""Weights that lie in the profile's folder of weights: runs are pointed at them without being told."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from gmail_kedro.commands.project import Project
from gmail_kedro.configuration.settings_text import nest
from gmail_kedro.preflight.requirements import FILE, MODELS, read_requirements

OF_A_SET = ("generators",)
OF_A_RUN = tuple(kind for kind in MODELS if kind not in OF_A_SET)


def find_paths(project: Project, changes: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, str]:
    """Returns the parameters that point at weights in the folder of weights, where the run names no path itself.

    Args:
        project: The project; a profile without requirements has no such folder.
        changes: What is changed of the parameters, by their names with dots.
        kinds: Keys of ``zoo.inventory.KINDS``.

    Raises:
        UnknownModelError: If the zoo does not know a model that lies there by name.
    """
    from gmail_kedro.models.inventory import KINDS, find_weights
    from gmail_kedro.preflight.checks import weights_in_folder

    file = project.root / "conf" / project.profile / FILE
    if not file.is_file():
        return {}
    requirements = read_requirements(file)
    if not (project.root / requirements.weights_folder).is_dir():
        return {}
    group = cache(Project(project.root, project.env, nest(changes)).group)
    paths = {}
    for kind in kinds:
        (name, model), (_, path) = (
            setting.split(".") for setting in (KINDS[kind].name_setting, KINDS[kind].path_setting)
        )
        places = weights_in_folder(requirements, group(name)[model], project.root)
        found = find_weights(kind, group(name)[model], places) if places and group(name)[path] is None else None
        if found is not None and found.path in places:
            paths[KINDS[kind].path_setting] = str(found.path)
    return paths
