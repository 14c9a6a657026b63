"""Lower precision for the networks, or the parts of them, that gain from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_CONVERTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_MOST_ON_TRIAL = torch.finfo(torch.float16).max / 16


def run_in_precision(modules: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Make modules compute in a lower precision but still give float32; in place.

    Convolutions and linear layers gain from it. What a Faster R-CNN does between them (box
    arithmetic, softmax, sorting, NMS) stays outside and sees float32 alone: a box 1,000 pixels
    from the origin has steps of 4 pixels in bf16.

    float32 leaves the modules untouched.
    """
    if dtype == torch.float32:
        return
    for module in modules:
        cast_weights(module, dtype)
        _wrap_forward(module, dtype)


def cast_weights(
    network: nn.Module, dtype: torch.dtype, *, exact: Iterable[nn.Module] = ()
) -> None:
    """Keep a network's weights in the format in which autocast computes with them; in place.

    The numbers are those of float32 weights, which autocast would convert in every pass. Other
    layers' weights stay, and the network can no longer be run without autocast, nor trained.

    Args:
        network: run within autocast.
        dtype: that of autocast; float32 changes nothing.
        exact: parts of it that compute in float32 all the same.
    """
    if dtype == torch.float32:
        return
    kept = set()
    for part in exact:
        kept |= set(part.modules())
        _stay_in_float32(part)
    for module in network.modules():
        if isinstance(module, _CONVERTED) and module not in kept:
            module.to(dtype)


@torch.inference_mode()
def fits_fp16(network: nn.Module, images: Tensor) -> bool:
    """Whether a network's numbers stay far below fp16's largest, 65,504; computed in float32.

    Far is a sixteenth: photographs have given up to four times the numbers of random pixels, and
    batch normalisations, once folded, others than they give here.

    Args:
        network: in evaluation mode.
        images: what it takes, on its device.
    """
    largest: list[Tensor] = []

    def look(_: nn.Module, __: Any, given: Any) -> None:
        outputs = given if isinstance(given, list | tuple) else [given]
        largest.extend(one.abs().amax() for one in outputs if isinstance(one, Tensor))

    watching = [module.register_forward_hook(look) for module in network.modules()]
    try:
        network(images)
    finally:
        for hook in watching:
            hook.remove()
    return bool(torch.stack(largest).amax() < _MOST_ON_TRIAL)


def _stay_in_float32(module: nn.Module) -> None:
    forward = module.forward

    def forward_in_float32(*args: Any) -> Any:
        device = next(module.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return forward(*to_float32(args))

    module.__dict__["forward"] = forward_in_float32


def _wrap_forward(module: nn.Module, dtype: torch.dtype) -> None:
    forward = module.forward

    def forward_in_precision(*args: Any, **kwargs: Any) -> Any:
        device = next(module.parameters()).device
        with torch.autocast(device.type, dtype=dtype):
            return to_float32(forward(*args, **kwargs))

    # Not a wrapping module: the libraries look for attributes of their own on these modules.
    module.__dict__["forward"] = forward_in_precision


def to_float32(value: Any) -> Any:
    """A tensor of lower precision, or tensors in lists, tuples and mappings, as float32."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {key: to_float32(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(to_float32(part) for part in value)
    return value
