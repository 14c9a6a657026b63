"""Networks made quicker once they have their weights: the same numbers, but for rounding."""

from __future__ import annotations

from torch import nn

from posepipe.networks.backbones.lite_hrnet import pair_shuffles
from posepipe.networks.folding import fold_batch_norms
from posepipe.pose.networks.globalnet import GlobalNet
from posepipe.pose.networks.refinenet import RefineNet


def quicken(network: nn.Module, *, on_cpu: bool = True) -> None:
    """Make a network quicker, in place; it can no longer be trained.

    Args:
        network: a pose network, or any other.
        on_cpu: whether that is where it will run; exported ones do.
    """
    fold_batch_norms(network.eval())
    pair_shuffles(network)
    if on_cpu:
        enlarge_last(network)


def enlarge_last(network: nn.Module) -> None:
    """Let GlobalNet and RefineNet convolve what they enlarge before they do, in place.

    A 1x1 convolution and a bilinear enlargement, whose weights sum to 1, give the same in either
    order, but for rounding. Small features take less to convolve: a seventh of the multiply-adds
    of a CPN with ResNet-50 is left out, and a quarter of the default pose model's. But more is
    enlarged and added: a GPU would have to move a tenth more through its memory, for which it
    waits (computed). In training, batch normalisations would see other statistics.
    """
    for module in network.modules():
        if isinstance(module, GlobalNet | RefineNet):
            module.enlarges_last = True
