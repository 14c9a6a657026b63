"""A group of commands that are imported when they are called: its help needs none of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click

from posepipe.cli.environment import name_variables, prefix_of


class LazyGroup(click.Group):
    """A group whose commands are named here, with what its help says of each, and live elsewhere.

    Args:
        later: ``"module:function"`` and one line of help by a command's name, in the help's order.
            The line is the first of the command's own help, which a test compares.
        variables: what the environment variables of its options begin with; those of its commands
            have the command's name behind it.
    """

    def __init__(
        self,
        *arguments: Any,
        later: Mapping[str, tuple[str, str]],
        variables: str,
        **attributes: Any,
    ) -> None:
        super().__init__(*arguments, **attributes)
        self.later, self.variables = later, variables
        name_variables(self, variables)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all commands: first those that live elsewhere."""
        return [*self.later, *(name for name in self.commands if name not in self.later)]

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Add a command; its options get their environment variables."""
        if not isinstance(cmd, LazyGroup):  # which has named its own
            name_variables(cmd, prefix_of(self.variables, name or cmd.name or ""))
        super().add_command(cmd, name)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name, imported if it was not yet; None if there is none."""
        if cmd_name not in self.commands and cmd_name in self.later:
            module, function = self.later[cmd_name][0].split(":")
            self.add_command(getattr(import_module(module), function), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help's list of commands, for which nothing is imported."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._line(name)) for name in self.list_commands(ctx)])

    def _line(self, name: str) -> str:
        if name in self.later:
            return self.later[name][1]
        return self.commands[name].get_short_help_str(limit=200)
