"""``posepipe models export``: a model as one file for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from posepipe.cli.completion import models_of
from posepipe.cli.options import PATH, set_option
from posepipe.cli.terminal import echo


@click.command()
@click.argument("name", shell_complete=models_of())
@click.option(
    "-o",
    "--output",
    type=PATH,
    required=True,
    help="The file to write: .onnx, or .xml for OpenVINO, which gets a .bin beside it.",
)
@click.option(
    "--format",
    type=click.Choice(["onnx", "openvino"]),
    help="The format.  [default: by the file's name]",
)
@click.option("--weights", type=PATH, help="A weights file instead of the model's own.")
@set_option("--set", "changes", "decoding.flip=false")
@click.option(
    "--int8",
    is_flag=True,
    help="Compute in 8-bit integers where it costs little; for OpenVINO, with --calibrate.",
)
@click.option(
    "--calibrate",
    metavar="IMAGES",
    help="A folder of images like those to come, from which --int8 learns its scales.",
)
def export(name: str, output: Path, int8: bool, calibrate: str | None, **options: Any) -> None:
    """Export the model NAME to a file for ONNX Runtime or OpenVINO.

    The file accepts batches of any size. It contains the model's recipe, so it can be used like a
    model: `posepipe run --model FILE`. Before it is written, its results are compared with
    torch's.
    """
    if int8 != (calibrate is not None):
        raise click.UsageError("--int8 and --calibrate IMAGES go together")
    from posepipe.curation.exporting import check_int8, export_model

    if calibrate is not None:
        from posepipe.calibration import calibration_inputs

        check_int8(output, options["format"])
        options["calibration"] = calibration_inputs(name, calibrate)
    done = export_model(name, output, **options)
    found = done.difference
    if calibrate is not None:
        echo(f"calibrated with {len(options['calibration'])} images or people of {calibrate}")
    echo(f"{done.path}: {done.bytes / 1e6:.1f} MB")
    echo(
        f"{done.runtime} differs from torch by {found.largest:.1e} at most, in all by "
        f"{found.relative:.1e} of the numbers' size"
    )
