"""Checkpoint files opened safely, told apart by their content and not by their names.

PyTorch's are read by its weights-only reader. TensorFlow's are read by TensorFlow itself (the extra
``posepipe[tensorflow]``), which knows both of its formats, with their compressed tables, slices and
checksums; there is no smaller reader that is maintained.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from safetensors.torch import load_file

from posepipe.errors import MissingDependencyError, WeightsError
from posepipe.zoo.pickles import read_pickle
from posepipe.zoo.weights import (
    StateDict,
    named_tensors,
    read_content,
    read_torch,
    without_wrappers,
)

# What the files begin with: a zip archive, and torch's own number in a pickle of before 2020.
_TORCH_BEGINNINGS = (b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
_PICKLE_BEGINNING = b"\x80"  # of any other pickle: detectron2's model zoo
# What a table of TensorFlow's (and LevelDB's) ends with: the index of format V2, a whole V1 file.
_TABLE_END = bytes.fromhex("57fb808b247547db")


class TensorflowReader(Protocol):
    """The part of TensorFlow's checkpoint reader that is used here."""

    def get_variable_to_shape_map(self) -> Mapping[str, list[int]]:
        """The shape of every variable."""
        ...

    def get_tensor(self, name: str) -> object:
        """A variable's value."""
        ...


@dataclass(frozen=True, eq=False)
class ForeignCheckpoint:
    """An opened checkpoint of another project or of a published model.

    Attributes:
        path: what was named.
        kind: whose format it is.
        shapes: of every tensor, by its name, in the file's own layout and order.
        read: gives a tensor by its name; raises WeightsError where the file is damaged.
        files: what it consists of.
    """

    path: Path
    kind: Literal["torch", "tensorflow"]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], torch.Tensor]
    files: tuple[Path, ...]


def open_checkpoint(path: Path) -> ForeignCheckpoint:
    """Open a file of PyTorch (.pth, .pth.tar, …), safetensors, detectron2 or TensorFlow.

    Args:
        path: the file; for TensorFlow's format V2 any of its files, or what their names have in
            common ("snapshot_350.ckpt").

    Raises:
        WeightsError: no such file, another kind of file, a damaged one, or one with more than
            arrays in it.
        MissingDependencyError: it is TensorFlow's, which is not installed.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder: name a checkpoint file in it")
    prefix = _tensorflow_prefix(path)
    if prefix is not None:
        return tensorflow_checkpoint(path, prefix, _tensorflow_reader(prefix))
    if not path.is_file():
        raise WeightsError(f"no checkpoint file {path}")
    beginning = _bytes_at(path, 0, 16)
    if beginning.startswith(_TORCH_BEGINNINGS):
        state = _named_tensors(path, read_torch)
    elif beginning[8:9] == b"{":
        state = _named_tensors(path, load_file)
    elif beginning.startswith(_PICKLE_BEGINNING):
        state = _named_tensors(path, read_pickle)
    else:
        raise WeightsError(
            f"{path} is not a checkpoint: neither a file of PyTorch's or of safetensors nor a "
            "TensorFlow checkpoint (or only the beginning of one)"
        )
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    return ForeignCheckpoint(path, "torch", shapes, state.__getitem__, (path,))


def _named_tensors(path: Path, reader: Callable[[Path], Any]) -> StateDict:
    """A file's tensors by name, which lie under one of two keys in training's checkpoints."""
    content = read_content(path, reader)
    of_detectron2 = isinstance(content, Mapping) and isinstance(content.get("model"), Mapping)
    within = "model" if of_detectron2 else "state_dict"
    return without_wrappers(named_tensors(content, path, within=within))


def tensorflow_checkpoint(path: Path, prefix: Path, reader: TensorflowReader) -> ForeignCheckpoint:
    """A TensorFlow checkpoint that a reader has opened.

    Args:
        path: what was named.
        prefix: what the names of its files have in common.
        reader: one of TensorFlow's kind.
    """
    found = reader.get_variable_to_shape_map()

    def read(name: str) -> torch.Tensor:
        value = np.asarray(read_content(prefix, lambda _: reader.get_tensor(name)))
        if not np.issubdtype(value.dtype, np.number):
            raise WeightsError(f"{prefix}: {name!r} is of type {value.dtype}, not of numbers")
        return torch.from_numpy(value.copy())

    shapes = {name: tuple(found[name]) for name in sorted(found)}
    endings = (".index", ".data-")
    files = tuple(
        file
        for file in sorted(prefix.parent.iterdir())
        if file == prefix
        or (file.stem == prefix.name and file.suffix.startswith(endings) and file.is_file())
    )
    return ForeignCheckpoint(path, "tensorflow", shapes, read, files)


def _tensorflow_prefix(path: Path) -> Path | None:
    """What the names of a TensorFlow checkpoint's files have in common, if path is one of them."""
    if path.is_file() and _bytes_at(path, -len(_TABLE_END), len(_TABLE_END)) == _TABLE_END:
        return path.with_suffix("") if path.suffix == ".index" else path
    if path.is_file() and _bytes_at(path, 0, 16).startswith(_TORCH_BEGINNINGS):
        return None
    # The parts with the numbers have no mark of their own: the index beside them tells.
    for prefix in (path, path.with_suffix("")):
        if prefix.with_name(prefix.name + ".index").is_file():
            return prefix
    return None


def _tensorflow_reader(prefix: Path) -> TensorflowReader:
    # TensorFlow talks on stderr as it is imported, unless told not to beforehand; about oneDNN,
    # which reading does not need, in any case.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow
    except ModuleNotFoundError:
        raise MissingDependencyError(
            f"{prefix} is a TensorFlow checkpoint, which TensorFlow itself has to read: "
            "pip install 'posepipe[tensorflow]'"
        ) from None
    reader: TensorflowReader = read_content(
        prefix, lambda path: tensorflow.train.load_checkpoint(str(path))
    )
    return reader


def _bytes_at(path: Path, place: int, count: int) -> bytes:
    """A few bytes of a file, counted from its end if the place is negative."""
    try:
        with path.open("rb") as file:
            if place < 0:
                file.seek(max(0, path.stat().st_size + place))
            return file.read(count)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from None
