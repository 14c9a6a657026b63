"""``posepipe models export``: a model as one file for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from posepipe.cli.completion import models_of
from posepipe.cli.options import PATH
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
    help="What to write.  [default: what the file's name says]",
)
@click.option("--weights", type=PATH, help="A weights file in place of the model's own.")
def export(name: str, output: Path, **options: Any) -> None:
    """Write the model NAME as one file that ONNX Runtime or OpenVINO runs.

    The file takes batches of any size. It has the model's recipe in it and is a model by itself:
    `posepipe run --model FILE`. Before it is written its numbers are compared with torch's.
    """
    from posepipe.curation.exporting import export_model

    done = export_model(name, output, **options)
    found = done.difference
    echo(f"{done.path}: {done.bytes / 1e6:.1f} MB")
    echo(
        f"{done.runtime} differs from torch by {found.largest:.1e} at most, in all by "
        f"{found.relative:.1e} of the numbers' size"
    )
