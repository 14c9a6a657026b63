"""Other people's pose networks as ONNX files, run by onnxruntime (the extra ``posepipe[onnx]``).

An ONNX file is a graph of known operators and their numbers; it names no code. It is given to
onnxruntime as bytes, so that it cannot point at other files.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from torch import Tensor, nn

from posepipe.errors import MissingDependencyError, WeightsError
from posepipe.zoo.recipe import Table

_MOST_BYTES = 2 * 2**30  # protobuf's own limit


class OnnxTable(Table, frozen=True):
    """The table ``[network]`` of a pose recipe with ``backend = "onnx"``.

    Attributes:
        backend: "onnx".
        outputs: the names of what the codec reads, in its order: heatmaps, or vectors for x and
            for y. Left out: everything that the file gives.
    """

    backend: Literal["onnx"]
    outputs: Annotated[tuple[str, ...], Meta(max_length=16)] = ()


def import_onnxruntime(name: str) -> Any:
    """The module onnxruntime.

    Args:
        name: of the model or file that needs it, for the error message.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"{name} is an ONNX network, which needs onnxruntime: pip install 'posepipe[onnx]'"
        ) from None
    return onnxruntime


class OnnxNetwork(nn.Module):
    """Crops (B, 3, H, W) in, what the file gives out.

    Args:
        path: an ``.onnx`` file, or a ``.zip`` with a single one in it.
        outputs: see `OnnxTable`.
        size_wh: width and height of the crops.
        device: a CUDA device is used if this onnxruntime can.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
        WeightsError: the file is damaged, not a network from one picture of this size or lacks an
            output.
    """

    def __init__(
        self,
        path: Path,
        *,
        outputs: tuple[str, ...],
        size_wh: tuple[int, int],
        device: torch.device,
    ) -> None:
        super().__init__()
        onnxruntime = import_onnxruntime(path.name)
        wanted = ["CUDAExecutionProvider"] if device.type == "cuda" else []
        available = onnxruntime.get_available_providers()
        providers = [name for name in wanted if name in available] + ["CPUExecutionProvider"]
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised as well
        try:
            self._session: Any = onnxruntime.InferenceSession(
                _content(path), sess_options=options, providers=providers
            )
        except WeightsError:
            raise
        except Exception as error:  # of onnxruntime's own kinds, which have no common base
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{path} cannot be read as an ONNX network: {reason}") from None
        self._path = path
        inputs = self._session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4:
            raise WeightsError(
                f"{path} is not a network from a picture (B, 3, H, W): its inputs are "
                f"{[(one.name, one.shape) for one in inputs]}"
            )
        self._input = inputs[0]
        crop = (3, size_wh[1], size_wh[0])
        fixed = [
            want if isinstance(want, int) else have
            for want, have in zip(self._input.shape[1:], crop, strict=True)
        ]
        if fixed != list(crop):
            raise WeightsError(
                f"{path} takes pictures {fixed} (C, H, W), the recipe's "
                f"preprocessing.input_size_wh makes {list(crop)}"
            )
        given = [one.name for one in self._session.get_outputs()]
        missing = [name for name in outputs if name not in given]
        if missing:
            raise WeightsError(f"{path} has no output {missing[0]!r}; it has {', '.join(given)}")
        self._outputs = list(outputs) or given

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The outputs for (B, 3, H, W) images, on their device.

        A file that was exported for batches of one size gets them so, the last one filled up.

        Raises:
            WeightsError: the file cannot be run.
        """
        size = self._input.shape[0]
        step = size if isinstance(size, int) else len(images)
        kind = np.float16 if "float16" in self._input.type else np.float32
        pixels = np.ascontiguousarray(images.float().cpu().numpy().astype(kind))
        parts = [
            self._run(pixels[start : start + step], step) for start in range(0, len(pixels), step)
        ]
        return tuple(
            torch.from_numpy(np.concatenate(of_all)).to(images.device)
            for of_all in zip(*parts, strict=True)
        )

    def _run(self, pixels: npt.NDArray[Any], step: int) -> list[npt.NDArray[np.float32]]:
        count = len(pixels)
        if count < step:
            pixels = np.concatenate(
                [pixels, np.zeros((step - count, *pixels.shape[1:]), pixels.dtype)]
            )
        try:
            given = self._session.run(self._outputs, {self._input.name: pixels})
        except Exception as error:  # of onnxruntime's own kinds, which have no common base
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{self._path} cannot be run: {reason}") from None
        return [np.asarray(part[:count], np.float32) for part in given]


def _content(path: Path) -> bytes:
    """The bytes of the ONNX file, out of its archive if it is in one."""
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        found = [entry for entry in archive.infolist() if entry.filename.endswith(".onnx")]
        if len(found) != 1 or found[0].file_size > _MOST_BYTES:
            raise WeightsError(
                f"{path} has {len(found)} .onnx files in it; one of 2 GB at most is needed"
            )
        return archive.read(found[0])
