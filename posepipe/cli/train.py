"""``posepipe train``: a recipe and data in, a run folder out."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from posepipe.cli.completion import models_of
from posepipe.cli.interruption import INTERRUPTED, noted_interruption
from posepipe.cli.options import PATH, log_options, set_option
from posepipe.cli.progress import SECONDS_BETWEEN_LINES
from posepipe.cli.terminal import echo, logs_json, visible
from posepipe.errors import PosepipeError, WeightsError

if TYPE_CHECKING:
    from posepipe.training.reports import Measured, Report
    from posepipe.training.runs import TrainOptions

_MOST_MINED = 3


class _TrainCommand(click.Command):
    """A command whose option --data takes two values, or three where the third is a number."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Add the weight 1 where --data comes without one."""
        completed: list[str] = []
        for place, argument in enumerate(args):
            completed.append(argument)
            names_data = place >= 2 and args[place - 2] == "--data"
            if names_data and not (place + 1 < len(args) and _is_number(args[place + 1])):
                completed.append("1")
        return super().parse_args(ctx, completed)


@click.command(cls=_TrainCommand)
@click.argument("recipe", shell_complete=models_of())
@click.option("-o", "--output", "run", type=PATH, required=True, help="The run folder to write.")
@click.option(
    "--data",
    type=(str, str, float),
    multiple=True,
    metavar="ANNOTATIONS IMAGES [WEIGHT]",
    help="A COCO keypoint file, the folder of its images, and its sampling weight; may "
    "be repeated.  [default: the recipe's]",
)
@click.option(
    "--validate",
    type=(str, str),
    multiple=True,
    metavar="ANNOTATIONS IMAGES",
    help="Data to evaluate on; the first decides which weights are best; may be "
    "repeated.  [default: the recipe's]",
)
@set_option("--set", "changes", "training.learning_rate=1e-4")
@click.option(
    "--start",
    help="Start from these weights: a file, or a model's name or folder. If the "
    "keypoints differ, all but the heads are used.",
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Stop with a checkpoint after this time.",
)
@click.option("--resume", is_flag=True, help="Continue from the run folder's checkpoint.")
@click.option("--check-only", is_flag=True, help="Only check the recipe and the data.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps.")
@log_options
@click.pass_obj
def train(verbose: bool, /, recipe: str, run: Path, check_only: bool, **options: Any) -> None:
    """Train the pose network or detector of RECIPE, a model's name or folder.

    Ctrl-C or SIGTERM stops with a checkpoint, and --resume continues from it. On several GPUs:
    torchrun --nproc-per-node N -m posepipe train …
    """
    first = os.environ.get("RANK", "0") == "0"
    try:
        if check_only:
            _check(recipe, _chosen(options))
        else:
            _train(recipe, run, _chosen(options), first=first)
    except PosepipeError:
        if not first:  # the first process says it
            sys.exit(1)
        raise


def _train(recipe: str, run: Path, options: TrainOptions, *, first: bool) -> None:
    from posepipe.training.runs import train as run_training

    with TrainingBar(shown=first) as bar:
        try:
            result = run_training(
                recipe,
                run,
                options=options,
                report=bar,
                warn=bar.warn,
                interruption=noted_interruption,
            )
        except KeyboardInterrupt:
            bar.close()
            if first:
                echo(f"posepipe: interrupted{_how_to_go_on(run, bar.samples)}", err=True)
            sys.exit(INTERRUPTED)
    if not first:
        return
    if not result.finished:
        echo(
            f"posepipe: stopped after {result.samples} of {result.of} samples: the same command "
            "with --resume goes on",
            err=True,
        )
    else:
        best = "" if result.best is None else f", best {result.best:.4f}"
        echo(f"{result.samples} samples{best}: {run}", err=True)


def _check(recipe: str, options: TrainOptions) -> None:
    from posepipe.training.runs import check_run

    findings = check_run(recipe, options)
    for finding in findings:
        echo(f"posepipe: {finding.line}", err=True)
    if any(finding.fatal for finding in findings):
        sys.exit(1)
    echo("posepipe: the network can be built and the data can be learnt from", err=True)


def _start_weights(start: str | None) -> Path | None:
    """The weights file that a file's, model's or folder's name leads to."""
    from posepipe.zoo.recipe import SUFFIXES, load_recipe
    from posepipe.zoo.weights import find_weights

    if start is None or Path(start).is_file():
        return None if start is None else Path(start)
    if Path(start).suffix in SUFFIXES:
        raise WeightsError(f"no weights file {start}")
    return find_weights(load_recipe(start))[0]


def _chosen(options: dict[str, Any]) -> TrainOptions:
    """The library's options, from the command line's."""
    from posepipe.training.data import DataTable
    from posepipe.training.runs import TrainOptions

    try:
        data = tuple(
            DataTable(annotations=file, images=folder, weight=weight)
            for file, folder, weight in options["data"]
        )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'--data'") from None
    return TrainOptions(
        changes=options["changes"],
        data=data,
        validate=tuple(
            DataTable(annotations=file, images=folder) for file, folder in options["validate"]
        ),
        start=_start_weights(options["start"]),
        minutes=options["minutes"],
        resume=options["resume"],
        device=options["device"],
    )


class TrainingBar:
    """One line about a run: samples/s, losses, learning rate, time left; one for each measurement.

    On a terminal the one line is renewed; in a log a new one is written every minute.

    Args:
        shown: whether anything is printed at all.
    """

    def __init__(self, *, shown: bool) -> None:
        self.samples = 0
        self._shown = shown
        self._bar: Any = None
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def __enter__(self) -> TrainingBar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, report: Report) -> None:
        """Show a report."""
        self.samples = report.samples
        if not self._shown:
            return
        if self._bar is None:
            self._bar = tqdm(
                total=report.of,
                desc="train",
                initial=report.samples,
                disable=logs_json() or None,
                file=sys.stderr,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt}{postfix}",
            )
        if report.measured is not None:
            line = f"{report.samples} samples: {_measured(report.measured)}"
            if logs_json():
                echo(line, err=True, samples=report.samples, measured=report.measured.metrics)
            else:
                tqdm.write(visible(line), file=sys.stderr)
            return
        losses = " ".join(f"{name} {value:.4g}" for name, value in report.losses.items())
        state = (
            f"{report.samples_per_second:.1f} samples/s, {losses}, lr {report.learning_rate:.2g}, "
            f"{_duration(report.seconds_left)} left"
        )
        if not self._bar.disable:
            self._bar.set_postfix_str(state, refresh=False)
            self._bar.update(report.samples - self._bar.n)
        elif report.samples_per_second and time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            echo(
                f"{report.samples} of {report.of} samples: {state}",
                err=True,
                samples=report.samples,
                of=report.of,
                losses=report.losses,
            )

    def warn(self, line: str) -> None:
        """Say what may be wrong."""
        if self._shown:
            echo(f"posepipe: warning: {line}", err=True)

    def close(self) -> None:
        """Leave the line as it is and go to the next one."""
        if self._bar is not None:
            self._bar.close()


def _measured(measured: Measured) -> str:
    parts = [f"{name} {value:.4f}" for name, value in measured.metrics.items()] or [
        "not measured (no --validate)"
    ]
    hardest = sorted(measured.mined.items(), key=lambda item: -item[1])[:_MOST_MINED]
    if hardest:
        mined = ", ".join(f"{name} {100 * share:.0f} %" for name, share in hardest)
        parts.append(f"mined most: {mined}")
    return ("best so far: " if measured.is_best else "") + "; ".join(parts)


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "?"
    return str(tqdm.format_interval(seconds))


def _how_to_go_on(run: Path, samples: int) -> str:
    from posepipe.training.run_folder import RunFolder

    if not RunFolder(run).has_checkpoint:
        return ""
    return f" after {samples} samples; the same command with --resume goes on from {run}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
