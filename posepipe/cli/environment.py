"""Environment variables in place of options: POSEPIPE_RUN_DEVICE for the --device of `run`."""

from __future__ import annotations

import click

PROGRAM = "POSEPIPE"


def name_variables(command: click.Command, prefix: str) -> None:
    """Let each option of a command be given by an environment variable, too.

    The variable has the option's own name. (click's ``auto_envvar_prefix`` would take the name of
    the function's parameter, which nobody sees, and give variables to --help and --version.) What
    is given on the command line takes precedence.

    Args:
        command: changed in place.
        prefix: what its variables begin with, like ``POSEPIPE_RUN``.
    """
    for option in command.params:
        if isinstance(option, click.Option) and not option.is_eager:
            option.envvar = f"{prefix}_{_in_capitals(max(option.opts, key=len))}"


def prefix_of(group: str, command: str) -> str:
    """What the variables of a group's command begin with.

    >>> prefix_of("POSEPIPE_MODELS", "fetch")
    'POSEPIPE_MODELS_FETCH'
    """
    return f"{group}_{_in_capitals(command)}"


def _in_capitals(name: str) -> str:
    return name.lstrip("-").replace("-", "_").upper()
