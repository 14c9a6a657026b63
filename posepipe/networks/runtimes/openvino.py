"""ONNX networks, and OpenVINO's own files, in OpenVINO (the extra ``posepipe[openvino]``)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy.typing as npt
import openvino
import torch

from posepipe.errors import WeightsError
from posepipe.networks.runtimes.base import Placement, Port, RuntimeNetwork, first_line

_HINTS = {torch.float32: "f32", torch.bfloat16: "bf16"}


def version() -> str:
    """See `Runtime.version`."""
    return f"openvino {openvino.__version__.partition('-')[0]}"


def why_not(placement: Placement) -> str:
    """See `Runtime.why_not`."""
    if placement.device.type != "cpu":
        return "openvino runs on the CPU here"
    if placement.dtype not in _HINTS:
        return "openvino computes in fp32 or bf16"
    if placement.dtype == torch.bfloat16 and "BF16" not in _abilities():
        return "openvino does not compute in bf16 on this CPU"
    return ""


@cache
def _abilities() -> tuple[str, ...]:
    return tuple(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


def open(  # the protocol's name
    source: Path | bytes,
    *,
    place: str,
    placement: Placement,
    wanted: Sequence[str] = (),
    cache: Path | None = None,
) -> OpenVINONetwork:
    """See `Runtime.open`."""
    config = {
        "INFERENCE_PRECISION_HINT": _HINTS[placement.dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,  # cores are shared with the threads that read images
        **({} if cache is None else {"CACHE_DIR": str(cache)}),
    }
    core = openvino.Core()
    try:
        # An ONNX file as bytes, so that it cannot point at other files.
        if isinstance(source, Path) and source.suffix == ".xml":
            model = core.read_model(source)
        else:
            model = core.read_model(source.read_bytes() if isinstance(source, Path) else source)
        compiled = core.compile_model(model, "CPU", config)
    except Exception as error:  # RuntimeError, and its own kinds
        reason = first_line(error)
        raise WeightsError(f"{place} cannot be read as a network: {reason}") from None
    return OpenVINONetwork(compiled, place, wanted)


class OpenVINONetwork(RuntimeNetwork):
    """A `RuntimeNetwork` of an ``openvino.CompiledModel``."""

    def __init__(self, compiled: Any, place: str, wanted: Sequence[str]) -> None:
        inputs = compiled.inputs
        super().__init__(
            place,
            version=version(),
            inputs=[Port(_name(one), _sides(one.partial_shape)) for one in inputs],
            outputs=[_name(one) for one in compiled.outputs],
            wanted=wanted,
            dtype=inputs[0].element_type.to_dtype(),
        )
        self._compiled = compiled
        self._numbers = [[_name(one) for one in compiled.outputs].index(n) for n in self.outputs]

    def _compute(self, name: str, pixels: npt.NDArray[Any]) -> Sequence[npt.NDArray[Any]]:
        del name  # there is one input
        given = self._compiled(pixels, share_inputs=True)
        return [given[number] for number in self._numbers]


def _name(port: Any) -> str:
    return min(port.get_names(), default=f"#{port.get_index()}")


def _sides(shape: Any) -> tuple[int | None, ...]:
    if shape.rank.is_dynamic:
        return ()
    return tuple(side.get_length() if side.is_static else None for side in shape)
