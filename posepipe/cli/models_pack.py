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
    "--weights", type=PATH, help="RUN/last.safetensors, in place of the run's best weights."
)
@click.option(
    "--average",
    type=PATH,
    multiple=True,
    help="Folder of another run from the same start: pack the mean of the weights of all.",
)
@click.option("--summary", help="One line for `posepipe models`.  [default: the recipe's]")
@click.option("--licence", help="Terms of weights and data, in a few words.")
@click.option("--data-terms", default="", help="What the card says about the data's terms.")
@click.option(
    "--measured", multiple=True, help="A line of the card with numbers measured elsewhere."
)
@click.option("--notes", default="", help="What the card says about limits.")
@click.option("--overwrite", is_flag=True, help="Replace a model that is there already.")
@click.option("--allow-large", is_flag=True, help="More than 16 MB.")
def pack(run: Path, model: Path, **options: Any) -> None:
    """Make the model folder MODEL of the run folder RUN.

    It gets the weights in half precision, the recipe, golden numbers for `posepipe models verify`,
    and a model card with what was measured, what the model was trained on and how.
    """
    from posepipe.curation.packing import PackOptions, pack_run

    packed = pack_run(run, model, options=PackOptions(**options))
    echo(f"{packed.folder}: {packed.bytes / 1e6:.1f} MB, SHA-256 {packed.sha256}")
