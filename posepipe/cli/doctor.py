"""``posepipe doctor``: what is installed here, and whether it works."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from posepipe.cli.lazy import LazyGroup
from posepipe.cli.options import PATH, device_option, log_options, precision_option
from posepipe.cli.terminal import echo, visible


@click.command()
@click.argument("image", type=PATH, required=False)
@device_option
@precision_option
@log_options
@click.pass_context
def doctor(ctx: click.Context, image: Path | None, device: str, precision: str) -> None:
    """Check the installation and time an image; the output belongs into bug reports.

    Shows versions, device, models and cache. IMAGE is the image to time; the default is noise.
    The exit status is 1 if something is broken. Paths in your home folder begin with ~, and
    passwords in URLs are left out.
    """
    from posepipe.doctor import examine, shown

    problems: list[str] = []
    known = set(variables_of(ctx.find_root().command))
    for section in examine(device=device, precision=precision, image=image, variables=known):
        echo(section.title)
        for fact in section.facts:
            mark = "!" if fact.problem else " "
            echo(f"{mark} {visible(fact.name):28} {visible(fact.value)}")
            if fact.problem:
                problems.append(shown(fact.problem))
    if not problems:
        echo("nothing is broken")
        return
    echo(f"broken: {len(problems)}")
    for problem in problems:
        echo(f"! {visible(problem)}")
    sys.exit(1)


def variables_of(command: click.Command) -> Iterator[str]:
    """The environment variables of a command's options, and of all commands in a group."""
    yield from (str(option.envvar) for option in command.params if option.envvar)
    if isinstance(command, LazyGroup):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from variables_of(inner)
