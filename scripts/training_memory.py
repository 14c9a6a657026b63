"""What pose networks need of a GPU's memory in training, at least.

    python scripts/training_memory.py cpn-resnet50-256x192 hourglass-8-256x192 …

A network is gone through with tensors that have shapes but no content, in fp32, and what it keeps
for the backward pass is added up; nothing is computed, so any network can be asked about on any
machine. To that come weights, gradients and Adam's two averages. The library's workspace, passing
results and the CUDA context are left out.
"""

from __future__ import annotations

import click
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.networks.build import build_network, network_table
from posepipe.zoo.recipe import load_recipe

CROPS = (4, 32)
BYTES = 4  # of a float
COPIES = 4  # weights, gradients, Adam's two averages
MEASURED = 4  # crops, to have their share of what does not grow with crops small


@click.command()
@click.argument("names", nargs=-1, required=True)
def main(names: tuple[str, ...]) -> None:
    """Print what recipes' networks need."""
    click.echo(f"{'':44}{'per crop':>12}" + "".join(f"{f'{n} crops':>12}" for n in CROPS))
    for name in names:
        kept, parameters = measure(name)
        fixed = COPIES * BYTES * parameters
        needs = "".join(f"{(n * kept + fixed) / 2**30:8.1f} GiB" for n in CROPS)
        click.echo(f"{name:44}{kept / 2**20:8.0f} MiB{needs}")


def measure(name: str) -> tuple[float, int]:
    """Bytes that a crop leaves behind for the backward pass, and the number of parameters."""
    recipe = load_recipe(name)
    width, height = recipe.table("preprocessing", PreprocessingTable).input_size_wh
    kept: dict[int, Tensor] = {}  # by storage, whose tensors share it; holding them keeps ids apart
    with FakeTensorMode(allow_non_fake_inputs=True):
        network: nn.Module = build_network(network_table(recipe)).train()
        weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            kept.setdefault(tensor.untyped_storage()._cdata, tensor)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            levels, refined = network.forward_all(torch.zeros(MEASURED, 3, height, width))
            predictions = [*levels, refined] if refined is not None else levels
            losses = [(maps - torch.zeros_like(maps)).square().mean() for maps in predictions]
            torch.stack(losses).sum()
        bytes_kept = sum(
            tensor.untyped_storage().nbytes()
            for storage, tensor in kept.items()
            if storage not in weights
        )
        parameters = sum(parameter.numel() for parameter in network.parameters())
    return bytes_kept / MEASURED, parameters


if __name__ == "__main__":
    main()
