"""Networks compiled by torch.compile, for few shapes; on CUDA recorded as graphs, too."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from posepipe.errors import OptionError
from posepipe.networks.recording import TwoSizes
from posepipe.networks.runtimes.base import RuntimeNetwork, first_line
from posepipe.networks.runtimes.export import tensors_of

Compile = Literal["auto", "on", "off"]
_PAYS_FROM = 100_000
"""Images, of three people with the flip test. On an H200, compiling took 33 s and saved 0.07 ms for
every crop of cpn-resnet50-256x192: it has paid after some 470,000 crops, mirrored ones included."""
_MOST_COMPILED = 256  # times that torch compiles a function before it gives up; it would after 8


def pays(device: torch.device, images: int) -> bool:
    """Whether a run over so many images is long enough for what compiling costs; never on a CPU."""
    return device.type == "cuda" and images >= _PAYS_FROM


class Compiled(nn.Module):
    """A network that is compiled for batches of two sizes, see `TwoSizes`.

    Each is compiled when it comes for the first time, which takes from seconds to a minute.

    Args:
        network: on its device, from (B, 3, H, W) to a tensor or to several, nested or not, B first.
        batch_size: the largest B.
        times: see `TwoSizes`.
        shapes: likewise.
        record: likewise.
    """

    def __init__(
        self,
        network: nn.Module,
        batch_size: int,
        *,
        times: int = 1,
        shapes: int = 1,
        record: bool = True,
    ) -> None:
        super().__init__()
        self.network = network
        self._compiled: Any = torch.compile(network, dynamic=False)
        self._sizes = TwoSizes(
            self._compute,
            batch_size,
            times=times,
            shapes=shapes,
            otherwise=self._as_it_is,
            record=record,
            within=compiling,
        )

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The network's tensors, one after the other, for any number of images, at least one.

        Raises:
            OptionError: the network cannot be compiled here: it is the first time.
        """
        return self._sizes(images)

    def _as_it_is(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors_of(self.network(images)))

    def _compute(self, images: Tensor) -> tuple[Tensor, ...]:
        with torch._dynamo.config.patch(cache_size_limit=_MOST_COMPILED):
            # Of one memory format, lest it be compiled again for another.
            images = images.contiguous(memory_format=torch.channels_last)
            return tuple(tensors_of(self._compiled(images)))


def compiled(
    network: nn.Module,
    batch_size: int,
    *,
    model: str,
    times: int = 1,
    shapes: int = 1,
    record: bool = True,
) -> Compiled:
    """A network compiled for batches of up to a size: see `Compiled`.

    Args:
        network: on its device.
        batch_size: the largest batch.
        model: whose network it is, for the error.
        times: see `TwoSizes`.
        shapes: likewise.
        record: likewise.

    Raises:
        OptionError: another runtime than torch runs it.
    """
    if isinstance(network, RuntimeNetwork):
        raise OptionError(
            f"{network.version} runs {model} and has compiled it: --compile is for --runtime torch"
        )
    return Compiled(network, batch_size, times=times, shapes=shapes, record=record)


@contextmanager
def compiling() -> Iterator[None]:
    """While networks are run for the first time.

    Raises:
        OptionError: they cannot be compiled here.
    """
    about_compilers = logging.getLogger("torch.utils.cpp_extension")
    before = about_compilers.level
    try:
        about_compilers.setLevel(logging.ERROR)  # there need be no CUDA
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, to programmers
            yield
    except OptionError:
        raise
    except Exception as error:  # of many kinds: no compiler, an operation that is not known
        raise OptionError(
            f"the networks cannot be compiled ({first_line(error)}): torch.compile needs a C++ "
            "compiler such as g++, on a GPU also triton: install it, or leave out --compile"
        ) from None
    finally:
        about_compilers.setLevel(before)
