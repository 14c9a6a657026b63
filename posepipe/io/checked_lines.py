"""Lines of JSON that carry a checksum each, numbers in full: of journals and shards."""

from __future__ import annotations

import zlib
from typing import Any, TypeVar, get_args

import msgspec
import numpy as np

T = TypeVar("T")


class _Array(msgspec.Struct):
    shape: tuple[int, ...]
    data: list[float]


def encode_line(record: object) -> bytes:
    """A record as a line: eight hexadecimal digits of CRC-32, a space, JSON, a line feed.

    Args:
        record: a msgspec Struct or dataclass; numpy arrays in it come back as they were.
    """
    return _with_checksum(msgspec.json.encode(record, enc_hook=_array_to_json))


def decode_line(line: bytes, kind: type[T]) -> T | None:
    """The record of a line without its line feed; None if the line is not as it was written."""
    text = line[9:]
    if _with_checksum(text) != line + b"\n":
        return None
    try:
        return msgspec.json.decode(text, type=kind, dec_hook=_array_from_json)
    except (msgspec.DecodeError, ValueError, RecursionError):  # not of this program
        return None


def _with_checksum(text: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(text), text)


def _array_to_json(value: object) -> object:
    if not isinstance(value, np.ndarray):
        raise NotImplementedError(f"a journal has no place for a {type(value).__name__}")
    # Python writes a float so that it is read back as the same; float32 goes through it unchanged.
    return _Array(value.shape, value.ravel().tolist())


def _array_from_json(kind: type, value: object) -> object:
    array = msgspec.convert(value, _Array)
    dtype: Any = get_args(get_args(kind)[1])[0]  # of numpy.ndarray[shape, numpy.dtype[this]]
    return np.array(array.data, dtype=dtype).reshape(array.shape)
