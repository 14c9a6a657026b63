"""``posepipe models import``: a checkpoint of another program becomes a model folder."""

from __future__ import annotations

from pathlib import Path

import click

from posepipe.cli.options import PATH
from posepipe.cli.terminal import echo
from posepipe.errors import OptionError

_SIZES = {"256x192": (192, 256), "384x288": (288, 384)}


@click.command("import")
@click.argument("file", type=PATH)
@click.option("-o", "--output", type=PATH, required=True, help="The model folder to write.")
@click.option(
    "--input-size",
    type=click.Choice(list(_SIZES)),
    help="Height and width of the crops it was trained with.  [default: 256x192]",
)
@click.option(
    "--batch-norm-eps",
    type=float,
    help="Epsilon of batch normalisation.  [default: that of the code base]",
)
def import_(file: Path, output: Path, input_size: str | None, batch_norm_eps: float | None) -> None:
    """Make a model folder from a checkpoint of pytorch-cpn, tf-cpn or detectron2, or from a graph.

    FILE is a .pth.tar of pytorch-cpn, a file or the prefix of a TensorFlow checkpoint of tf-cpn,
    a .pkl or .pth of detectron2, or the .json of an exported graph with its .safetensors beside
    it (RTMDet-nano, PP-TinyPose), recognised by its content. `posepipe pose --model DIR` then
    gives the same poses as that code base, `posepipe detect --model DIR` the same boxes.
    """
    if batch_norm_eps is not None and not 0 <= batch_norm_eps < 1:
        raise OptionError(f"--batch-norm-eps takes a number in [0, 1), got {batch_norm_eps}")
    from posepipe.curation.importing.model_folder import import_checkpoint

    size = _SIZES[input_size] if input_size else None
    made = import_checkpoint(file, output, input_size_wh=size, batch_norm_eps=batch_norm_eps)
    echo(f"{file}: {made.title}")
    for reason in made.because:
        echo(f"- {reason}")
    megabytes = made.weights_bytes / 2**20
    echo(f"{output}: written, with {megabytes:.1f} MB of weights and golden numbers")
