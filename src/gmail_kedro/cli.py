"""Kedro's commands for this project: ``kedro run`` with our reading of ``--params``, and ``kedro gmail``.

A command of this group called ``run`` takes the place of Kedro's own (kedro 1.7). That is wanted of the first; it is
why the commands of ``gmail-kedro``, which has a ``run`` too, are a group of their own.
"""

import copy
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from gmail_kedro.commands.command_line import gmail
from gmail_kedro.configuration.params_option import nest, parse_settings


@click.group()
def cli() -> None:
    """Commands of this project; Kedro looks for this name."""


def _parse(context: click.Context, _: click.Parameter, value: Any) -> Any:
    if isinstance(value, dict):  # from a file: kedro run --config
        return value
    try:
        return nest(parse_settings(value))
    except ValueError as error:
        context.fail(str(error))


def _with_our_params(option: click.Parameter) -> click.Parameter:
    changed = copy.copy(option)
    if changed.name == "params":
        changed.callback = _parse
    return changed


run = copy.copy(kedro_run)
run.params = [_with_our_params(option) for option in kedro_run.params]
cli.add_command(run)
cli.add_command(gmail)
