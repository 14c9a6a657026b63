"""ONNX networks, and OpenVINO's own files, in OpenVINO (the extra ``posepipe[openvino]``)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
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
from posepipe.networks.threads import threads_in_use

_MOST_STREAMS = 4
_IMAGES_OF_A_PIECE = 2
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
        "INFERENCE_NUM_THREADS": threads_in_use(),
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
    except Exception as error:  # RuntimeError, and its own kinds
        raise _unreadable(place, error) from None

    def compiled(images: int | None, streams: int) -> Any:
        shaped = model
        if images is not None:
            shaped = model.clone()
            shaped.reshape([images, *_sides(model.inputs[0].partial_shape)[1:]])
        return core.compile_model(shaped, "CPU", {**config, "NUM_STREAMS": streams})

    return OpenVINONetwork(model, compiled, place, inputs, wanted, streams=_streams())


def _streams() -> int:
    return min(threads_in_use(), _MOST_STREAMS)


def _unreadable(place: str, error: Exception) -> WeightsError:
    return WeightsError(f"{place} cannot be read as a network: {first_line(error)}")


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
    """A `RuntimeNetwork` of an ``openvino.Model``.

    A single image gets all threads. Several are shared out in pieces among streams, each of which
    has some of the threads: that is faster, since threads of one stream wait for each other at
    every layer. Where nothing but the number of images is open, it is compiled for pieces of one or
    two images: OpenVINO plans such a network's memory and layers ahead, which makes it faster by a
    tenth.
    """

    def __init__(
        self,
        model: Any,
        compiled: Callable[[int | None, int], Any],
        place: str,
        inputs: Sequence[Port],
        wanted: Sequence[str],
        *,
        streams: int,
    ) -> None:
        """Take over a network.

        Args:
            model: with normalisation, where it takes pixels.
            compiled: compiles it for so many images, None for any number, and with so many streams.
            place: what error messages call it.
            inputs: what the file takes, whatever the network was made to take.
            wanted: the outputs to give.
            streams: how many there are for several images.
        """
        super().__init__(
            place,
            version=version(),
            inputs=inputs,
            outputs=[_name(one) for one in model.outputs],
            wanted=wanted,
            dtype=model.inputs[0].element_type.to_dtype(),
        )
        self._numbers = [[_name(one) for one in model.outputs].index(n) for n in self.outputs]
        self._compiled, self._streams = compiled, streams
        self._networks: dict[tuple[int | None, int], _Requests] = {}
        self._compiling = threading.Lock()
        shape = self._input.shape
        self._is_fixed = shape[0] is None and None not in shape[1:]
        if self._is_fixed:
            with suppress(Exception):  # its layers want the number of images open
                self._network(_IMAGES_OF_A_PIECE, streams)
                return
        self._is_fixed = False
        try:
            self._network(None, streams)
        except Exception as error:  # RuntimeError, and its own kinds
            raise _unreadable(place, error) from None

    @property
    def ahead(self) -> int:
        """See `RuntimeNetwork.ahead`: one call for the streams, and one that is ready for them."""
        return 2

    def _start(
        self, name: str, parts: Sequence[npt.NDArray[Any]], *, alone: bool
    ) -> Sequence[Callable[[], Sequence[npt.NDArray[Any]]]]:
        count = sum(map(len, parts))
        most, streams = _IMAGES_OF_A_PIECE, self._streams
        if self._input.shape[0] is not None:
            most = self._input.shape[0]
        elif alone:
            streams = 1 if count == 1 else streams
            if count <= streams or not self._is_fixed:
                most = -(-count // streams)
        begun = [
            [self._begin(piece, streams) for piece in _pieces(pixels, most)] for pixels in parts
        ]
        return [partial(_joined, of_part) for of_part in begun]

    def _begin(self, pixels: npt.NDArray[Any], streams: int) -> _Piece:
        """Start on a piece."""
        network = self._network(len(pixels) if self._is_fixed else None, streams)
        return _Piece(network, network.begin(pixels), pixels, self._numbers)

    def _network(self, images: int | None, streams: int) -> _Requests:
        """The network for pieces of so many images; compiled when it is first needed."""
        with self._compiling:
            kind = (images, streams)
            if kind not in self._networks:
                self._networks[kind] = _Requests(self._compiled(images, streams))
            return self._networks[kind]


class _Requests:
    """A compiled network, and its requests that are free: each computes one piece at a time."""

    def __init__(self, compiled: Any) -> None:
        self._compiled = compiled
        self.free: deque[Any] = deque()  # threads may share it

    def begin(self, pixels: npt.NDArray[Any]) -> Any:
        """A request that computes; the pixels must stay where they are meanwhile."""
        try:
            request = self.free.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        request.set_input_tensor(openvino.Tensor(pixels, shared_memory=True))
        request.start_async()
        return request


def _pieces(pixels: npt.NDArray[Any], most: int) -> list[npt.NDArray[Any]]:
    return [pixels[start : start + most] for start in range(0, len(pixels), most)]


@dataclass(frozen=True)
class _Piece:
    """A piece that is being computed.

    Attributes:
        network: whose request it is.
        request: the request.
        pixels: what it reads.
        numbers: of the outputs that are wanted.
    """

    network: _Requests
    request: Any
    pixels: npt.NDArray[Any]
    numbers: Sequence[int]

    def outputs(self) -> list[npt.NDArray[Any]]:
        """Wait for the outputs, which are the request's own until it is free again."""
        self.request.wait()
        return [self.request.get_output_tensor(number).data for number in self.numbers]


def _joined(pieces: Sequence[_Piece]) -> list[npt.NDArray[Any]]:
    """The outputs of a part, once all its pieces are computed."""
    found = [piece.outputs() for piece in pieces]
    joined = [np.concatenate(of_pieces) for of_pieces in zip(*found, strict=True)]
    for piece in pieces:
        piece.network.free.append(piece.request)
    return joined


def _name(port: Any) -> str:
    return min(port.get_names(), default=f"#{port.get_index()}")


def _sides(shape: Any) -> tuple[int | None, ...]:
    if shape.rank.is_dynamic:
        return ()
    return tuple(side.get_length() if side.is_static else None for side in shape)
