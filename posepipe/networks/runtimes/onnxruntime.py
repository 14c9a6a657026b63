"""ONNX networks in onnxruntime (the extra ``posepipe[onnxruntime]``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch

from posepipe.errors import WeightsError
from posepipe.networks.normalising import Normalisation
from posepipe.networks.runtimes.base import Placement, Port, RuntimeNetwork, first_line
from posepipe.networks.threads import threads_in_use

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def version() -> str:
    """See `Runtime.version`."""
    return f"onnxruntime {onnxruntime.__version__}"


def why_not(placement: Placement) -> str:
    """See `Runtime.why_not`."""
    if _PROVIDERS.get(placement.device.type) not in onnxruntime.get_available_providers():
        return f"this onnxruntime cannot use the device {placement.device.type}"
    if placement.dtype != torch.float32:
        return "onnxruntime computes in fp32 alone"
    return ""


def open(  # the protocol's name
    source: Path | bytes,
    *,
    place: str,
    placement: Placement,
    wanted: Sequence[str] = (),
    normalisation: Normalisation | None = None,
    cache: Path | None = None,  # there is nothing to keep: it optimises in no time
) -> OnnxRuntimeNetwork:
    """See `Runtime.open`."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised as well
    options.intra_op_num_threads = threads_in_use()
    device = placement.device
    provider: Any = _PROVIDERS[device.type]
    if device.index is not None:
        provider = (provider, {"device_id": device.index})
    providers = [provider] if device.type == "cpu" else [provider, _PROVIDERS["cpu"]]
    # As bytes, so that the file cannot point at other files.
    content = source.read_bytes() if isinstance(source, Path) else source
    try:
        session = onnxruntime.InferenceSession(content, sess_options=options, providers=providers)
    except Exception as error:  # of onnxruntime's own kinds, which have no common base
        reason = first_line(error)
        raise WeightsError(f"{place} cannot be read as an ONNX network: {reason}") from None
    return OnnxRuntimeNetwork(session, place, wanted, normalisation)


class OnnxRuntimeNetwork(RuntimeNetwork):
    """A `RuntimeNetwork` of an ``onnxruntime.InferenceSession``."""

    def __init__(
        self,
        session: Any,
        place: str,
        wanted: Sequence[str],
        normalisation: Normalisation | None,
    ) -> None:
        inputs = session.get_inputs()
        super().__init__(
            place,
            version=version(),
            inputs=[Port(one.name, tuple(map(_side, one.shape))) for one in inputs],
            outputs=[one.name for one in session.get_outputs()],
            wanted=wanted,
            dtype=np.float16 if "float16" in inputs[0].type else np.float32,
            normalisation=normalisation,
        )
        self._session = session

    def _start(
        self, name: str, parts: Sequence[npt.NDArray[Any]], *, alone: bool
    ) -> Sequence[Callable[[], Sequence[npt.NDArray[Any]]]]:
        found = [self._session.run(list(self.outputs), {name: pixels}) for pixels in parts]
        return [partial(tuple, outputs) for outputs in found]


def _side(given: int | str | None) -> int | None:
    return given if isinstance(given, int) else None
