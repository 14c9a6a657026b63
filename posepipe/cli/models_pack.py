"""``posepipe models pack``: a run becomes a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from posepipe.cli.options import PATH
from posepipe.cli.terminal import echo


@click.command()
@click.argument("run", type=PATH)
@click.argument("model", type=PATH)
@click.option(
    "--weights", type=PATH, help="RUN/last.safetensors, instead of the run's best weights."
)
@click.option(
    "--average",
    type=PATH,
    multiple=True,
    help="Another run that started from the same weights: pack the mean of all; may be repeated.",
)
@click.option("--summary", help="A summary in one line.  [default: the recipe's]")
@click.option("--licence", help="Licence of weights and data, in a few words.")
@click.option("--data-terms", default="", help="For the model card: the terms of the data.")
@click.option(
    "--measured",
    multiple=True,
    help="For the model card: a line with figures measured elsewhere; may be repeated.",
)
@click.option("--notes", default="", help="For the model card: known limits.")
@click.option("--overwrite", is_flag=True, help="Replace an existing model.")
@click.option("--allow-large", is_flag=True, help="Allow more than 16 MB.")
def pack(run: Path, model: Path, **options: Any) -> None:
    """Make the model folder MODEL from the run folder RUN.

    The model has weights in half precision, the recipe, golden numbers for `posepipe models
    verify`, and a model card with the metrics, the data and the settings of the training.
    """
    from posepipe.curation.packing import PackOptions, pack_run

    packed = pack_run(run, model, options=PackOptions(**options))
    echo(f"{packed.folder}: {packed.bytes / 1e6:.1f} MB, SHA-256 {packed.sha256}")
