"""Networks compiled by torch.compile, for batches of two sizes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from posepipe.errors import OptionError
from posepipe.networks.runtimes.base import first_line

Compile = Literal["auto", "on", "off"]
_SMALL_SHARE = 8
_PAYS_FROM = 100_000
"""Images. On an H100, compiling took 25 s and saved 0.07 ms for every crop of cpn-resnet50-256x192:
it has paid after some 360,000 crops, mirrored ones included."""


def pays(device: torch.device, images: int) -> bool:
    """Whether a run over so many images is long enough for what compiling costs; never on a CPU."""
    return device.type == "cuda" and images >= _PAYS_FROM


class Compiled(nn.Module):
    """A network that is compiled for batches of two sizes: whole ones, and an eighth of that.

    Each is compiled when it comes for the first time, which takes from seconds to a minute. Other
    batches are put together from these two, the last one filled up with zeros.

    Args:
        network: on its device, from (B, 3, H, W) to a tensor or a tuple of them, B first.
        batch_size: the largest B.
    """

    def __init__(self, network: nn.Module, batch_size: int) -> None:
        super().__init__()
        self.network = network
        self._sizes = (batch_size, math.ceil(batch_size / _SMALL_SHARE))
        self._compiled: Any = torch.compile(network, dynamic=False)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The network's tensors for any number of images, at least one."""
        given = []
        while len(images):
            whole, small = self._sizes
            size = whole if len(images) > whole - 2 * small else small
            part, images = images[:size], images[size:]
            lacking = size - len(part)
            if lacking:
                part = torch.cat([part, part.new_zeros((lacking, *part.shape[1:]))])
            outputs = self._compiled(part.contiguous(memory_format=torch.channels_last))
            tensors = outputs if isinstance(outputs, tuple) else (outputs,)
            given.append([tensor[: size - lacking] for tensor in tensors])
        return tuple(torch.cat(parts) for parts in zip(*given, strict=True))


@contextmanager
def compiling() -> Iterator[None]:
    """While networks are run for the first time.

    Raises:
        OptionError: they cannot be compiled here.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, to programmers
            yield
    except Exception as error:  # of many kinds: no compiler, an operation that is not known
        raise OptionError(
            f"the networks cannot be compiled ({first_line(error)}): torch.compile needs a C++ "
            "compiler such as g++, on a GPU also triton: install it, or leave out --compile"
        ) from None
