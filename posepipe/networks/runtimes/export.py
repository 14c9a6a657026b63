"""Networks as ONNX: what the other runtimes run, and what `posepipe models export` writes."""

from __future__ import annotations

import copy
import inspect
import io
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from posepipe.errors import MissingDependencyError, OptionError
from posepipe.networks.runtimes.base import Placement, first_line

INPUT = "images"
_TOLERANCE = 1e-3  # relative, in fp32
_OPSET = 17  # all that these networks need; read by libraries since 2022


@dataclass(frozen=True, eq=False)
class Exportable:
    """A network with what an exporter must know of it.

    Attributes:
        network: images (B, 3, H, W), normalised float32, to a tensor or a tuple of them.
        outputs: their names.
        size_wh: width and height of the images.
        any_size: whether width and height may be others, too.
        quicken: changes a copy of the network in place, so that it gives the same for less work.
    """

    network: nn.Module
    outputs: tuple[str, ...]
    size_wh: tuple[int, int]
    any_size: bool = False
    quicken: Callable[[nn.Module], None] | None = None


def can_export() -> bool:
    """Whether the package is installed that torch needs to write ONNX."""
    return find_spec("onnx") is not None


def to_onnx(exportable: Exportable) -> bytes:
    """The network as the bytes of an ONNX file: any batch size, fp32.

    Raises:
        MissingDependencyError: the package onnx is not installed.
        OptionError: torch cannot export it.
    """
    if not can_export():
        raise MissingDependencyError(
            "exporting a network needs the package onnx: pip install 'posepipe[onnxruntime]' or "
            "'posepipe[openvino]'"
        )
    moving = {0: "batch", 2: "height", 3: "width"} if exportable.any_size else {0: "batch"}
    width, height = exportable.size_wh
    options: dict[str, Any] = {
        "input_names": [INPUT],
        "output_names": list(exportable.outputs),
        "dynamic_axes": dict.fromkeys((INPUT, *exportable.outputs), moving),
        "opset_version": _OPSET,
    }
    # The tracing exporter: the newer one needs a further package and makes nothing better of these.
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    network = Flat(copy.deepcopy(exportable.network)).float().cpu().eval()
    if exportable.quicken is not None:
        exportable.quicken(network)
    content = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        # That it is the older exporter, and that shapes become constants, as they should.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(network, (torch.zeros(2, 3, height, width),), content, **options)  # type: ignore[arg-type]
        except Exception as error:  # of many kinds, one for each thing that may be missing
            raise OptionError(f"torch cannot export this network: {first_line(error)}") from None
    return content.getvalue()


@dataclass(frozen=True)
class Difference:
    """How far an exported network is from the one in torch.

    Attributes:
        largest: between two numbers.
        relative: root mean square, relative to that of torch's numbers.
        size: root mean square of torch's numbers.
    """

    largest: float
    relative: float
    size: float


def difference(
    exportable: Exportable, exported: nn.Module, images: Tensor | None = None
) -> Difference:
    """Compare a network in torch, on the CPU in fp32, with the same one exported.

    Args:
        exportable: the network.
        exported: the same one.
        images: (B, 3, H, W); random ones if None.
    """
    if images is None:
        width, height = exportable.size_wh
        random = torch.Generator().manual_seed(0)
        images = torch.randn(3, 3, height, width, generator=random)
    with torch.inference_mode():
        wanted = torch.cat([part.flatten() for part in Flat(exportable.network).eval()(images)])
        found = torch.cat([part.flatten() for part in exported(images)])
    if wanted.shape != found.shape:
        return Difference(math.inf, math.inf, 0.0)
    error = found - wanted
    size, largest = wanted.square().mean().sqrt().item(), error.abs().max().item()
    return Difference(largest, error.square().mean().sqrt().item() / max(size, 1e-30), size)


def check_equal(
    exportable: Exportable, exported: nn.Module, placement: Placement, name: str
) -> Difference:
    """Check that an exported network gives torch's numbers in fp32, but for rounding.

    Raises:
        OptionError: it does not.
    """
    found = difference(exportable, exported)
    if not found.relative <= _TOLERANCE:
        raise OptionError(
            f"the network of {name} gives other numbers in {placement.runtime} than in torch: "
            f"{found.relative:.1%} off: use --runtime torch"
        )
    return found


class Flat(nn.Module):
    """A network whose tensors in nested lists come out as one tuple, as exporters want them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """All tensors, in their order."""
        return tuple(tensors_of(self.network(images)))


def tensors_of(given: Any) -> list[Tensor]:
    """A tensor, or tensors in nested lists, tuples and mappings, one after the other."""
    if isinstance(given, Tensor):
        return [given]
    parts = given.values() if isinstance(given, Mapping) else given
    return [tensor for part in parts for tensor in tensors_of(part)]
