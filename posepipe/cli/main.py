"""The command ``posepipe``: its subcommands, and how errors are reported."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from posepipe.cli.environment import PROGRAM
from posepipe.cli.interruption import INTERRUPTED, orderly_interruption
from posepipe.cli.lazy import LazyGroup
from posepipe.cli.options import VERBOSE, log_options, speak_up
from posepipe.cli.terminal import echo, echo_lines, logs_json, print_anything
from posepipe.errors import PosepipeError

# Beside MemoryError: torch has RuntimeErrors of its own, for the CPU and for GPUs.
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


_HOMES = "posepipe.cli."
COMMANDS = {
    "run": (
        f"{_HOMES}run:run",
        "Find the people in images or in a video, and estimate their poses.",
    ),
    "detect": (
        f"{_HOMES}detect:detect",
        "Find the people in images or in a video, and write their boxes.",
    ),
    "pose": (f"{_HOMES}pose:pose", "Estimate the poses of the people in BOXES.JSON."),
    "merge": (
        f"{_HOMES}merge:merge",
        "Combine the files of --shard 1/N … N/N into one kps.json or boxes.json.",
    ),
    "eval": (
        f"{_HOMES}evaluate:evaluate",
        "Evaluate poses (or a boxes.json) with COCO's metrics, equal to pycocotools'.",
    ),
    "compare": (
        f"{_HOMES}compare:compare",
        "Compare the poses of B.JSON (and more) with those of A.JSON on the same labels.",
    ),
    "rescore": (
        f"{_HOMES}rescore:rescore",
        "Compute new scores for the poses of KPS.JSON, from box scores and keypoint confidences.",
    ),
    "draw": (
        f"{_HOMES}draw:draw",
        "Draw the skeletons of KPS.JSON, or the boxes of a BOXES.JSON, into copies of the images.",
    ),
    "view": (
        f"{_HOMES}view:view",
        "View the poses of KPS.JSON, or the boxes of a BOXES.JSON, in a browser.",
    ),
    "serve": (
        f"{_HOMES}serve:serve",
        "Serve poses over HTTP: POST an image, get its poses as JSON, or the drawn image.",
    ),
    "models": (
        f"{_HOMES}models:models",
        "List the models; `posepipe models show NAME` shows one.",
    ),
    "train": (
        f"{_HOMES}train:train",
        "Train the pose network or detector of RECIPE, a model's name or folder.",
    ),
    "doctor": (
        f"{_HOMES}doctor:doctor",
        "Check the installation and time an image; the output belongs into bug reports.",
    ),
}


class Program(LazyGroup):
    """A group of commands whose errors are one line on stderr."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command.

        Raises:
            SystemExit: 1 after an error of posepipe's, 130 after an interruption.
        """
        print_anything()
        with orderly_interruption():
            try:
                return super().invoke(ctx)
            except (click.ClickException, click.exceptions.Exit, click.Abort) as error:
                if not (isinstance(error, click.ClickException) and logs_json()):
                    raise  # click's own, of which some are RuntimeErrors
                echo(error.format_message(), err=True, level="error")
                sys.exit(error.exit_code)
            except PosepipeError as error:
                echo(f"posepipe: {error}", err=True, level="error")
            except KeyboardInterrupt:
                echo("posepipe: interrupted", err=True, level="error")
                sys.exit(INTERRUPTED)
            except OSError as error:  # what libraries did not turn into an error of ours
                if error.errno == errno.EPIPE:  # `| head` has read enough; click knows what to do
                    raise
                where = f"{error.filename}: " if error.filename else ""
                echo(f"posepipe: {where}{error.strerror or error}", err=True, level="error")
                _drop_stdout()
            except (MemoryError, RuntimeError) as error:
                text = str(error).lower()
                if isinstance(error, RuntimeError) and not any(s in text for s in _OUT_OF_MEMORY):
                    _say_unforeseen(error, ctx)
                    sys.exit(1)
                echo(
                    "posepipe: out of memory: use a smaller --batch-size (in training --set "
                    "training.batch), fewer --workers or smaller --scales",
                    err=True,
                    level="error",
                )
            except Exception as error:
                _say_unforeseen(error, ctx)
            sys.exit(1)


def _say_unforeseen(error: Exception, ctx: click.Context) -> None:
    """An unexpected error in one line, with how to report it; with -v, all of it."""
    if ctx.meta.get(VERBOSE) and not logs_json():
        echo_lines(traceback.format_exc())
    *_, last = traceback.extract_tb(error.__traceback__)
    where = f"{Path(last.filename).name}, line {last.lineno}"
    text = " ".join(str(error).split())
    echo(
        f"posepipe: unforeseen error, which is a bug: {type(error).__name__}: {text[:300]} "
        f"({where}): please report it with the command and what it prints with -v",
        err=True,
        level="error",
        traceback=traceback.format_exc(),
    )
    _drop_stdout()


def _drop_stdout() -> None:
    """Discard what stdout still holds, lest Python fail once more to write it as it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    "posepipe",
    cls=Program,
    later=COMMANDS,
    variables=PROGRAM,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="posepipe", prog_name="posepipe")
@log_options
@click.pass_context
def main(ctx: click.Context) -> None:
    """Find the people in images and videos, and estimate their poses.

    \b
    posepipe run photos/ -o kps.json          images in, COCO keypoints out
    posepipe detect photos/ -o boxes.json     the same in two steps
    posepipe pose boxes.json -o kps.json
    posepipe draw kps.json -o drawn/          draw the results
    posepipe view kps.json                    view the results in a browser
    posepipe eval kps.json --split minival    evaluate on COCO
    posepipe train RECIPE -o runs/mine        train your own network

    Environment variables set options, too: POSEPIPE_RUN_DEVICE is the --device of `run`.
    """  # noqa: D301  # click reads the backspace: keep these lines
    ctx.ensure_object(bool)
    speak_up(verbose=bool(ctx.obj))
