"""Arrays out of pickles (detectron2's model zoo), of which only the data is trusted.

A pickle is a program: it names functions and classes, and what they are called with. Here the few
names that arrays consist of stand for objects of this file; every other name is an error. numpy's
own classes are not among them: a forged data type, given to ``numpy.dtype.__setstate__``, crashes
the process. Arrays are made from their bytes with `numpy.frombuffer`, of plain number types alone.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

_PLAIN = re.compile(r"b1|[iu][1248]|f[248]")


class PickledArray:
    """An array of a pickle.

    Attributes:
        array: its numbers, in this machine's byte order; writable.
    """

    def __init__(self, *_: object) -> None:
        self.array: npt.NDArray[Any] = np.zeros(0, np.int8)

    def __setstate__(self, state: Any) -> None:
        """Take shape and numbers, as pickles of numpy's arrays have them up to protocol 4."""
        _, shape, dtype, columns_first, content = state
        self.array = _from_bytes(content, dtype, shape, "F" if columns_first else "C")


def read_pickle(path: Path) -> Any:
    """What is in a pickle of plain containers, texts and numbers; each array a `PickledArray`.

    Raises:
        pickle.UnpicklingError: it asks for anything else.
        Exception: it is damaged: nearly any kind.
    """
    with path.open("rb") as file:
        return _ArraysOnly(file).load()


class _Dtype:
    """A data type of plain numbers; of numpy's state only the byte order is used."""

    def __init__(self, code: object, *_: object) -> None:
        if not (isinstance(code, str) and _PLAIN.fullmatch(code)):
            raise pickle.UnpicklingError(f"it holds values of type {_short(code)}, not numbers")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Dictionary(dict[Any, Any]):
    """In place of an OrderedDict, which may bring attributes of its own: they are ignored."""

    def __init__(self, pairs: Any = ()) -> None:
        pairs = list(pairs)
        _check_keys(key for key, _ in pairs)
        super().__init__(pairs)

    def __setstate__(self, state: object) -> None:
        pass


def _from_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> npt.NDArray[Any]:
    if isinstance(content, str):  # Python 2's bytes
        content = content.encode("latin1")
    numbers = isinstance(dtype, _Dtype) and isinstance(content, bytes | bytearray)
    sides = isinstance(shape, tuple) and all(type(side) is int and side >= 0 for side in shape)
    if not (numbers and sides and prod(shape) * dtype.dtype.itemsize == len(content)):
        raise pickle.UnpicklingError("an array's type, shape and bytes do not fit together")
    array = np.frombuffer(bytearray(content), dtype.dtype).reshape(
        shape, order="F" if order == "F" else "C"
    )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _array_of_bytes(content: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    """An array as pickles since protocol 5 have it."""
    result = PickledArray()
    result.array = _from_bytes(content, dtype, shape, order)
    return result


def _latin1_bytes(text: str, encoding: str) -> bytes:
    """What Python 2's pickled bytes are made with; `_codecs.encode` itself takes any codec."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"it holds bytes encoded as {_short(encoding)}")
    return text.encode("latin1")


def _empty_bytes() -> bytes:
    """`bytes()`, which older pickles have for an array without numbers; takes no size."""
    return b""


def _scalar(dtype: Any, content: Any = b"") -> Any:
    """A number of numpy's, such as the best score so far, which training notes beside weights."""
    return _from_bytes(content, dtype, (), "C").item()


class _PassedOver:
    """In place of an object whose attributes are nobody's business here: a program's options."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _ArrayType:
    """In place of the type that arrays name, which nothing here uses."""


# What training's checkpoints have beside tensors, for torch's own reader (`torch.load` with
# ``weights_only``): by name, the objects of this file that stand for numpy's and argparse's.
TORCH_NAMES: tuple[tuple[Any, str], ...] = (
    (_Dtype, "numpy.dtype"),
    (_ArrayType, "numpy.ndarray"),
    (_latin1_bytes, "_codecs.encode"),
    (_PassedOver, "argparse.Namespace"),
    *((_scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((PickledArray, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_array_of_bytes, f"numpy.{core}.numeric._frombuffer") for core in ("core", "_core")),
)

_KNOWN_NAMES = {
    ("numpy", "ndarray"): "an array's type, named by every array and used by nothing here",
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _latin1_bytes,
    ("__builtin__", "bytes"): _empty_bytes,
    ("builtins", "bytes"): _empty_bytes,
    ("collections", "OrderedDict"): _Dictionary,
    ("numpy.core.multiarray", "_reconstruct"): PickledArray,
    ("numpy._core.multiarray", "_reconstruct"): PickledArray,
    ("numpy.core.numeric", "_frombuffer"): _array_of_bytes,
    ("numpy._core.numeric", "_frombuffer"): _array_of_bytes,
}


# The one written in Python: the other one takes gigabytes for a file of ten bytes that says it
# has that many objects (opcode LONG_BINPUT). A weights file has some thousand opcodes.
# A tuple of twice the same tuple of twice the same …, 40 deep, is a file of 90 bytes whose hash, or
# text, takes for ever: names in dictionaries are plain, sets are left out, and no message has it.
class _ArraysOnly(pickle._Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN_NAMES:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _KNOWN_NAMES[module, name]

    def load_build(self) -> None:
        # Python's own would set attributes of whatever is there, of the functions above as well.
        if not isinstance(self.stack[-2], PickledArray | _Dtype | _Dictionary):  # type: ignore[attr-defined]
            raise pickle.UnpicklingError("it sets attributes of something that is not an array")
        super().load_build()  # type: ignore[misc]

    def load_setitem(self) -> None:
        _check_keys(self.stack[-2:-1])  # type: ignore[attr-defined]
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        _check_keys(self.stack[::2])  # type: ignore[attr-defined]
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        _check_keys(self.stack[::2])  # type: ignore[attr-defined]
        super().load_dict()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        # Python's own makes room first, for as many bytes as the file says that there are.
        (size,) = struct.unpack("<Q", self.read(8))  # type: ignore[attr-defined]
        self.append(bytearray(self.read(size)))  # type: ignore[attr-defined]

    def load_set(self) -> None:
        raise pickle.UnpicklingError("it holds a set")

    dispatch = pickle._Unpickler.dispatch | {  # type: ignore[assignment]
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        pickle.EMPTY_SET[0]: load_set,
        pickle.FROZENSET[0]: load_set,
    }


def _short(value: object) -> str:
    return repr(value[:20]) if isinstance(value, str) else f"a {type(value).__name__}"


def _check_keys(keys: Iterable[object]) -> None:
    for key in keys:
        if not isinstance(key, str | bytes | int | float | None):
            raise pickle.UnpicklingError(f"it has a {type(key).__name__} as a name")
