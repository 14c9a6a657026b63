"""What every runtime gives: a network that takes images, whatever library computes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from posepipe.errors import WeightsError
from posepipe.networks.normalising import Normalisation
from posepipe.networks.runtimes.names import TORCH
from posepipe.networks.threads import one_thread

T = TypeVar("T")


@dataclass(frozen=True)
class Placement:
    """Where and how a network runs.

    Attributes:
        runtime: the name of what computes it; "torch" or one of `registry.RUNTIMES`.
        device: where.
        dtype: the number format of its convolutions.
        automatic: the runtime was not asked for: where it cannot do it, torch does.
    """

    runtime: str
    device: torch.device
    dtype: torch.dtype
    automatic: bool = False

    @property
    def in_torch(self) -> Placement:
        """The same place in torch."""
        return replace(self, runtime=TORCH)


@dataclass(frozen=True)
class Port:
    """An input or output of an exported network.

    Attributes:
        name: its name in the file.
        shape: its sizes; None where any will do.
    """

    name: str
    shape: tuple[int | None, ...]


class RuntimeNetwork(nn.Module, ABC):
    """An exported network: a batch of images in, a tuple of float32 tensors out.

    A batch is (B, 3, H, W) float32, normalised; or (B, H, W, 3) uint8 RGB pixels if the network was
    opened with a normalisation. A file that was exported for batches of one size gets them so, the
    last one filled up.

    Args:
        place: what error messages call the file.
        version: the library's name with its version.
        inputs: what the file takes.
        outputs: what the file gives.
        wanted: the outputs to give, in this order; all if there are none.
        dtype: of the numbers that `_start` takes.
        normalisation: makes them of pixels, where the library does not.

    Attributes:
        version: as given.
        outputs: the names of what it gives.

    Raises:
        WeightsError: the file is not a network from one image (B, 3, H, W), or lacks an output.
    """

    def __init__(
        self,
        place: str,
        *,
        version: str,
        inputs: Sequence[Port],
        outputs: Sequence[str],
        wanted: Sequence[str] = (),
        dtype: npt.DTypeLike = np.float32,
        normalisation: Normalisation | None = None,
    ) -> None:
        super().__init__()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            taken = [(port.name, list(port.shape)) for port in inputs]
            raise WeightsError(
                f"{place} is not a network from an image (B, 3, H, W): its inputs are {taken}"
            )
        missing = [name for name in wanted if name not in outputs]
        if missing:
            raise WeightsError(f"{place} has no output {missing[0]!r}; it has {', '.join(outputs)}")
        self.version = version
        self.outputs = tuple(wanted) or tuple(outputs)
        self._place = place
        self._input = inputs[0]
        self._dtype = dtype
        self._normalisation = normalisation

    def check_takes(self, size_wh: tuple[int, int] | None) -> None:
        """Check that it takes images of a size, or of any size.

        Raises:
            WeightsError: it does not.
        """
        sides: list[int | None] = [None, None] if size_wh is None else [size_wh[1], size_wh[0]]
        fixed = list(self._input.shape[1:])
        if any(have not in (None, want) for have, want in zip(fixed, [3, *sides], strict=True)):
            needed = "any height and width are needed"
            if size_wh is not None:
                needed = f"the recipe's preprocessing.input_size_wh makes {[3, *sides]}"
            raise WeightsError(f"{self._place} takes images {fixed} (C, H, W), {needed}")

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs for a batch of at least one image, on its device.

        Raises:
            WeightsError: the file cannot be run.
        """
        [given] = self.all([images])
        return given

    def all(self, batches: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
        """`forward` of batches that may differ in size and shape, perhaps at the same time."""
        return list(self.start(batches, alone=True)())

    @property
    def ahead(self) -> int:
        """How many calls of `start` may go ahead of the one whose outputs are asked for next.

        With so many it always has something to compute. 0: `start` returns when all is computed.
        """
        return 0

    def start(
        self, batches: Sequence[Tensor], *, alone: bool = False
    ) -> Callable[[], Iterator[tuple[Tensor, ...]]]:
        """Begin to compute what `all` gives; the function that comes back gives it.

        It waits for each batch when its turn comes, while the others may still be computed; all of
        them must be asked for.

        Args:
            batches: as `all` takes them; nobody may change them before the outputs are there.
            alone: nothing else will be started before the outputs are asked for, so that it is the
                time until then that counts, and otherwise how much is computed in all. The numbers
                are the same.

        Raises:
            WeightsError: the file cannot be run; here or by the function.
        """
        parts: list[npt.NDArray[Any]] = []
        ends: list[int] = []  # of each batch's parts
        with one_thread():
            for images in batches:
                parts += self._parts(images)
                ends.append(len(parts))
        waits = self._tried(lambda: self._start(self._input.name, parts, alone=alone))

        def finish() -> Iterator[tuple[Tensor, ...]]:
            for images, start, end in zip(batches, [0, *ends], ends, strict=False):
                found = [self._tried(wait) for wait in waits[start:end]]
                outputs = (
                    np.concatenate(of_parts) if end - start > 1 else of_parts[0]
                    for of_parts in zip(*found, strict=True)
                )
                tensors = (torch.from_numpy(np.asarray(one, np.float32)) for one in outputs)
                yield tuple(tensor[: len(images)].to(images.device) for tensor in tensors)

        return finish

    def _tried(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as error:  # of the libraries' own kinds, which have no common base
            raise WeightsError(f"{self._place} cannot be run: {first_line(error)}") from None

    def _parts(self, images: Tensor) -> list[npt.NDArray[Any]]:
        """A batch as the file takes it: whole, or in parts of one size, the last one filled up."""
        if self._normalisation is not None:
            images = self._normalisation(images)
        images = images if images.dtype == torch.uint8 else images.float()
        pixels = np.ascontiguousarray(images.cpu().numpy().astype(self._dtype, copy=False))
        step = self._input.shape[0]
        if step in (None, len(pixels)):
            return [pixels]
        filling = np.zeros((-len(pixels) % step, *pixels.shape[1:]), pixels.dtype)
        filled = np.concatenate([pixels, filling]) if len(filling) else pixels
        return [filled[start : start + step] for start in range(0, len(filled), step)]

    @abstractmethod
    def _start(
        self, name: str, parts: Sequence[npt.NDArray[Any]], *, alone: bool
    ) -> Sequence[Callable[[], Sequence[npt.NDArray[Any]]]]:
        """For each part, what waits for its outputs, in the order of `outputs`.

        Args:
            name: of the input that takes them.
            parts: of any number of images if the file takes any, else of as many as it takes.
            alone: as in `start`.
        """


def start_all(
    network: nn.Module,
    batches: Sequence[Tensor],
    normalisation: Normalisation,
    *,
    alone: bool = False,
) -> Callable[[], Iterable[Any]]:
    """What gives what a network gives for batches that differ in shape.

    A `RuntimeNetwork` may compute them at the same time, see its `start`; torch computes them now.

    Args:
        network: a torch one, or one that was opened with the same normalisation.
        batches: (B, H, W, 3) uint8 RGB pixels.
        normalisation: what makes a torch network's input of them.
        alone: see `RuntimeNetwork.start`.
    """
    if isinstance(network, RuntimeNetwork):
        return network.start(batches, alone=alone)
    found = [network(normalisation(pixels)) for pixels in batches]
    return lambda: found


def starts_ahead(network: nn.Module, device: torch.device) -> int:
    """How many batches may be started ahead of the one whose outputs are asked for next.

    Of torch it is one on a GPU, which computes while the host does something else.
    """
    if isinstance(network, RuntimeNetwork):
        return network.ahead
    return 1 if device.type == "cuda" else 0


class Runtime(Protocol):
    """A library that runs exported networks."""

    def version(self) -> str:
        """Its name with its version."""
        ...

    def why_not(self, placement: Placement) -> str:
        """Why it cannot run networks there or in that number format; "" if it can."""
        ...

    def open(
        self,
        source: Path | bytes,
        *,
        place: str,
        placement: Placement,
        wanted: Sequence[str] = (),
        normalisation: Normalisation | None = None,
        cache: Path | None = None,
    ) -> RuntimeNetwork:
        """A network ready to run, with as many threads as torch has now.

        Args:
            source: a file, or what is in an ONNX file.
            place: what error messages call it.
            placement: where and how it runs.
            wanted: the outputs to give, in this order; all if there are none.
            normalisation: what makes the file's input of pixels, which the network then takes.
            cache: a folder for what the library compiles, so that the next time is quicker.

        Raises:
            WeightsError: it is damaged, or not a network from one image.
        """
        ...


def first_line(error: Exception) -> str:
    """What a library says about a failure, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("Set TORCH")]  # to torch's developers
    return lines[-1][:300] if lines else type(error).__name__
