"""Store weights as a model of the zoo: half precision, its SHA-256 and golden numbers made anew.

python scripts/pack_weights.py RUN/weights.safetensors models/NAME
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import torch
from safetensors.torch import load_file, save

from posepipe.data.jsonfiles import write_whole
from posepipe.engines.golden import write_golden
from posepipe.recipe import RECIPE_FILE, WEIGHTS_FILE, load_recipe, sha256_of


@click.command()
@click.argument("weights", type=click.Path(path_type=Path, exists=True))
@click.argument("model", type=click.Path(path_type=Path, exists=True))
def main(weights: Path, model: Path) -> None:
    """Pack WEIGHTS into the model folder MODEL, which has a recipe."""
    packed = {
        key: value.half() if value.dtype == torch.float32 else value
        for key, value in load_file(weights).items()
        if not key.endswith("num_batches_tracked")
    }
    target = model / WEIGHTS_FILE
    write_whole(target, [save(packed)])
    digest = sha256_of(target)
    recipe = model / RECIPE_FILE
    text = re.sub(r"^weights_sha256 = .*\n", "", recipe.read_text(), flags=re.MULTILINE)
    recipe.write_text(
        re.sub(r"^(\[model\]\n)", rf'\1weights_sha256 = "{digest}"\n', text, flags=re.M)
    )
    write_golden(load_recipe(model.resolve()))
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, SHA-256 {digest}")


if __name__ == "__main__":
    main()
