"""Batch normalisations folded into the convolutions before them: the same numbers, fewer steps."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights


def fold_batch_norms(network: nn.Module) -> int:
    """Fold every batch normalisation that directly follows a convolution into it, in place.

    These are neighbours in an `nn.Sequential`; neighbours that are called ``conv2`` and ``bn2``
    (with equal numbers), as in torchvision's and timm's ResNets; and a convolution's own child
    ``norm``, as in detectron2's. Others stay. The network must be in evaluation mode, and can no
    longer be trained. A variance's epsilon may be 0, which CUDA's own batch normalisation refuses.

    Returns:
        How many were folded.
    """
    folded = 0
    for module in list(network.modules()):
        for conv, owner, name in _followed(module):
            norm = getattr(owner, name)
            if isinstance(conv, nn.Conv2d) and _is_batch_norm(norm):
                _fold(conv, norm)
                setattr(owner, name, nn.Identity())
                folded += 1
    return folded


def _followed(module: nn.Module) -> Iterator[tuple[nn.Module, nn.Module, str]]:
    """What one of a module's children follows, with the module that has it and its name there."""
    children = list(module.named_children())
    if isinstance(module, nn.Conv2d):
        yield from ((module, module, name) for name, _ in children if name == "norm")
    for (first, before), (second, _) in itertools.pairwise(children):
        numbered = first.startswith("conv") and second == first.replace("conv", "bn")
        if isinstance(module, nn.Sequential) or numbered:
            yield before, module, second


def _is_batch_norm(module: nn.Module) -> bool:
    # By its name, lest torchvision be imported for networks that do not need it.
    return isinstance(module, nn.BatchNorm2d) or type(module).__name__ == "FrozenBatchNorm2d"


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: Any) -> None:
    """In float64: rounded once."""
    folded = fuse_conv_bn_weights(
        conv.weight.double(),
        None if conv.bias is None else conv.bias.double(),
        norm.running_mean.double(),
        norm.running_var.double(),
        norm.eps,
        norm.weight.double(),
        norm.bias.double(),
    )
    dtype = conv.weight.dtype
    conv.weight, conv.bias = (nn.Parameter(part.to(dtype), requires_grad=False) for part in folded)
