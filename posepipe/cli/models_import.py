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
@click.option("-o", "--output", type=PATH, required=True, help="The model folder to make.")
@click.option(
    "--input-size",
    type=click.Choice(list(_SIZES)),
    help="Height and width of the crops it was trained on.  [default: 256x192]",
)
@click.option(
    "--batch-norm-eps",
    type=float,
    help="Of its batch normalisation.  [default: what the code base ran with]",
)
def import_(file: Path, output: Path, input_size: str | None, batch_norm_eps: float | None) -> None:
    """Make a model folder of a checkpoint of pytorch-cpn or tf-cpn.

    FILE is a pytorch-cpn .pth.tar, or a file or the prefix of a TensorFlow checkpoint of tf-cpn;
    which of them is told by what is in it. `posepipe pose --model DIR` then gives that code base's
    own poses.
    """
    if batch_norm_eps is not None and not 0 <= batch_norm_eps < 1:
        raise OptionError(f"--batch-norm-eps takes a number in [0, 1), got {batch_norm_eps}")
    from posepipe.curation.importing.model_folder import import_checkpoint

    size = input_size or "256x192"
    made = import_checkpoint(
        file, output, input_size_wh=_SIZES[size], batch_norm_eps=batch_norm_eps
    )
    found = made.recognised
    backbone = found.network.backbone.replace("resnet", "ResNet-")
    echo(f"{file}: {found.code_base}, {backbone}")
    for reason in found.because:
        echo(f"- {reason}")
    if input_size is None:
        echo(
            f"- input size: weights do not tell; {size} is assumed (--input-size 384x288 if they "
            "were trained so)"
        )
    megabytes = made.weights_bytes / 2**20
    echo(f"{output}: written, with {megabytes:.1f} MB of weights and golden numbers")
