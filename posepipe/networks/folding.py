"""Batch normalisations folded into the convolutions before them: the same numbers, fewer steps."""

from __future__ import annotations

import copy
import itertools

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> int:
    """Fold every batch normalisation that directly follows a convolution into it, in place.

    These are neighbours in an `nn.Sequential`, and neighbours that are called ``conv2`` and
    ``bn2`` (with equal numbers), as in torchvision's and timm's ResNets. Others stay. The network
    must be in evaluation mode, and can no longer be trained. A variance's epsilon may be 0, which
    CUDA's own batch normalisation refuses.

    Returns:
        How many were folded.
    """
    folded = 0
    for module in list(network.modules()):
        for (first, conv), (second, norm) in itertools.pairwise(list(module.named_children())):
            follows = isinstance(module, nn.Sequential) or (
                first.startswith("conv") and second == first.replace("conv", "bn")
            )
            if follows and isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, _folded(conv, norm))
                setattr(module, second, nn.Identity())
                folded += 1
    return folded


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """In float64: rounded once."""
    dtype = conv.weight.dtype
    return fuse_conv_bn_eval(copy.deepcopy(conv).double(), copy.deepcopy(norm).double()).to(dtype)
