"""The `gmail-kedro` command, a module for each of its parts; ``command_line`` has the parser."""

from gmail_kedro.commands.command_line import main

__all__ = ["main"]
