"""Other people's pose networks as ONNX files, which onnxruntime or OpenVINO runs.

An ONNX file is a graph of known operators and their numbers; it names no code. It is given to
them as bytes, so that it cannot point at other files.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from posepipe.errors import WeightsError
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


def network_content(path: Path) -> bytes:
    """The bytes of an ONNX file, out of its archive if it is in one.

    Raises:
        WeightsError: an archive without a single ``.onnx`` in it.
    """
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        found = [entry for entry in archive.infolist() if entry.filename.endswith(".onnx")]
        if len(found) != 1 or found[0].file_size > _MOST_BYTES:
            raise WeightsError(
                f"{path} has {len(found)} .onnx files in it; one of 2 GB at most is needed"
            )
        return archive.read(found[0])
