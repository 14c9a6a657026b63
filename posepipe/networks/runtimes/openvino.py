"""ONNX networks, and OpenVINO's own files, in OpenVINO (the extra ``posepipe[openvino]``)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openvino
import torch
from openvino.preprocess import PrePostProcessor

from posepipe.errors import WeightsError
from posepipe.networks.normalising import Normalisation
from posepipe.networks.runtimes.base import Placement, Port, RuntimeNetwork, first_line

_MOST_STREAMS = 4
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
    normalisation: Normalisation | None = None,
    cache: Path | None = None,
) -> OpenVINONetwork:
    """See `Runtime.open`."""
    config: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": _HINTS[placement.dtype],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
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
        inputs = [Port(_name(one), _sides(one.partial_shape)) for one in model.inputs]
        if normalisation is not None and [len(port.shape) for port in inputs] == [4]:
            model = _of_pixels(model, normalisation)
        compiled = core.compile_model(model, "CPU", {**config, "NUM_STREAMS": 1})
    except Exception as error:  # RuntimeError, and its own kinds
        reason = first_line(error)
        raise WeightsError(f"{place} cannot be read as a network: {reason}") from None
    streams = min(torch.get_num_threads(), _MOST_STREAMS)

    def compile_streams() -> Any:
        return core.compile_model(model, "CPU", {**config, "NUM_STREAMS": streams})

    return OpenVINONetwork(
        compiled, place, inputs, wanted, compile_streams if streams > 1 else None
    )


def _of_pixels(model: Any, normalisation: Normalisation) -> Any:
    """The model with (B, H, W, 3) uint8 RGB pixels for its input.

    What makes its old input of them is part of it, and hardly costs anything: the library does it
    in passing, in the number format and the layout that the first layers want.
    """
    steps = PrePostProcessor(model)
    given = steps.input()
    given.tensor().set_element_type(openvino.Type.u8).set_layout(openvino.Layout("NHWC"))
    given.model().set_layout(openvino.Layout("NCHW"))
    wanted = given.preprocess()
    if normalisation.bgr:
        wanted.reverse_channels()
    wanted.convert_element_type(openvino.Type.f32)
    wanted.mean(list(normalisation.mean)).scale(list(normalisation.std))
    return steps.build()


class OpenVINONetwork(RuntimeNetwork):
    """A `RuntimeNetwork` of an ``openvino.CompiledModel``.

    A single image gets all threads. Several are shared out among streams, each of which has some
    of the threads: that is faster, since threads of one stream wait for each other at every layer.
    """

    def __init__(
        self,
        compiled: Any,
        place: str,
        inputs: Sequence[Port],
        wanted: Sequence[str],
        compile_streams: Callable[[], Any] | None = None,
    ) -> None:
        """Take over a network.

        Args:
            compiled: with one stream.
            place: what error messages call it.
            inputs: what the file takes, whatever the network was made to take.
            wanted: the outputs to give.
            compile_streams: compiles it with several streams, when they are needed; None: never.
        """
        super().__init__(
            place,
            version=version(),
            inputs=inputs,
            outputs=[_name(one) for one in compiled.outputs],
            wanted=wanted,
            dtype=compiled.inputs[0].element_type.to_dtype(),
        )
        self._compiled = compiled
        self._numbers = [[_name(one) for one in compiled.outputs].index(n) for n in self.outputs]

        self._compile_streams = compile_streams
        self._queue: Any = None

    def _compute(
        self, name: str, parts: Sequence[npt.NDArray[Any]]
    ) -> Sequence[Sequence[npt.NDArray[Any]]]:
        if self._compile_streams is None or sum(map(len, parts)) == 1:
            given = (self._compiled(pixels, share_inputs=True) for pixels in parts)
            return [[outputs[number] for number in self._numbers] for outputs in given]
        if self._queue is None:
            self._queue = openvino.AsyncInferQueue(self._compile_streams())
        queue, pieces = self._queue, [self._pieces(pixels, parts) for pixels in parts]
        found: dict[int, list[npt.NDArray[Any]]] = {}

        def keep(request: Any, number: int) -> None:
            outputs = [request.get_output_tensor(output).data for output in self._numbers]
            found[number] = [output.copy() for output in outputs]

        queue.set_callback(keep)
        for number, piece in enumerate(itertools.chain(*pieces)):
            queue.start_async({name: piece}, number, share_inputs=True)
        queue.wait_all()
        ends = itertools.accumulate(map(len, pieces))
        return [
            _joined([found[number] for number in range(end - len(of_part), end)])
            for of_part, end in zip(pieces, ends, strict=True)
        ]

    def _pieces(
        self, pixels: npt.NDArray[Any], parts: Sequence[npt.NDArray[Any]]
    ) -> list[npt.NDArray[Any]]:
        """A part in as many pieces as give all streams about the same number of images."""
        if self._input.shape[0] is not None:
            return [pixels]
        most = -(-sum(map(len, parts)) // len(self._queue))
        return np.array_split(pixels, -(-len(pixels) // most))


def _joined(pieces: Sequence[Sequence[npt.NDArray[Any]]]) -> list[npt.NDArray[Any]]:
    if len(pieces) == 1:
        return list(pieces[0])
    return [np.concatenate(outputs) for outputs in zip(*pieces, strict=True)]


def _name(port: Any) -> str:
    return min(port.get_names(), default=f"#{port.get_index()}")


def _sides(shape: Any) -> tuple[int | None, ...]:
    if shape.rank.is_dynamic:
        return ()
    return tuple(side.get_length() if side.is_static else None for side in shape)
