"""The command ``posepipe``: its subcommands, and what becomes of errors."""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from types import FrameType
from typing import Any

import click

from posepipe.cli.detect import detect
from posepipe.cli.draw import draw
from posepipe.cli.evaluate import evaluate
from posepipe.cli.models import models
from posepipe.cli.pose import pose
from posepipe.cli.run import run
from posepipe.errors import PosepipeError

INTERRUPTED = 130  # what a shell reports for a program that Ctrl-C ended


class Program(click.Group):
    """A group of commands whose errors are one line on stderr."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command.

        Raises:
            SystemExit: 1 after an error of posepipe's, 130 after an interruption.
        """
        try:
            return super().invoke(ctx)
        except PosepipeError as error:
            click.echo(f"posepipe: {error}", err=True)
        except KeyboardInterrupt:
            click.echo("posepipe: interrupted", err=True)
            sys.exit(INTERRUPTED)
        sys.exit(1)


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="posepipe")
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done.")
@click.pass_context
def main(ctx: click.Context, verbose: bool) -> None:
    """Find the people in pictures and estimate their poses.

    \b
    posepipe run photos/ -o kps.json          pictures in, COCO keypoints out
    posepipe detect photos/ -o boxes.json     the same in two steps
    posepipe pose boxes.json -o kps.json
    posepipe draw kps.json -o drawn/          look at the result
    posepipe eval kps.json --split minival    score it on COCO
    """  # noqa: D301  # click reads the backspace: keep these lines
    ctx.obj = verbose
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, format="%(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    if not verbose:
        # Libraries' warnings speak to programmers; what users must know is said in our own lines.
        warnings.simplefilter("ignore")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


for command in (run, detect, pose, evaluate, draw, models):
    main.add_command(command)
