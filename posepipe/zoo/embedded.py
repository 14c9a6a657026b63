"""Recipes inside the files of exported networks, which are models by themselves.

An ONNX file has the recipe among its ``metadata_props``, an OpenVINO one (``.xml``, with its
numbers in a ``.bin`` beside it) in its ``rt_info``; as JSON, under the names below. Both are read
here without the libraries that run them.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO
from xml.etree import ElementTree

import msgspec

from posepipe.errors import RecipeError, WeightsError
from posepipe.io.checksums import sha256_of

ONNX, OPENVINO = ".onnx", ".xml"
SUFFIXES = (ONNX, OPENVINO)
RECIPE_KEY = "posepipe.recipe"
OPENVINO_KEY = ("posepipe", "recipe")
NUMBERS_KEY = ("posepipe", "bin_sha256")

_METADATA_PROPS = 14  # field of ONNX's ModelProto: entries with a key (1) and a value (2)
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5  # protobuf's wire types
_MOST_BYTES = 1_000_000  # of a recipe
_MOST_VARINT = 10


def is_exported(path: Path) -> bool:
    """Whether a file is an exported network, by its name."""
    return path.suffix in SUFFIXES


def embedded_recipe(path: Path) -> dict[str, Any]:
    """The tables of the recipe in an exported network's file.

    Raises:
        RecipeError: there is none, or it is damaged.
    """
    try:
        text = _of_onnx(path) if path.suffix == ONNX else _of_openvino(path, OPENVINO_KEY)
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, EOFError):  # of XML and UTF-8, too
        raise RecipeError(f"{path} is damaged, or not an exported network") from None
    if text is None:
        raise RecipeError(
            f"{path} has no recipe in it, as files of `posepipe models export` have: put it into a "
            'folder with a recipe.toml that has [network] backend = "onnx"'
        )
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise RecipeError(f"{path}: its recipe is damaged") from None


def with_recipe(content: bytes, tables: Mapping[str, Any]) -> bytes:
    """An ONNX file's bytes with a recipe in them."""
    text = recipe_text(tables).encode()
    entry = _field(1, RECIPE_KEY.encode()) + _field(2, text)
    return content + _field(_METADATA_PROPS, entry)  # repeated fields may stand anywhere


def recipe_text(tables: Mapping[str, Any]) -> str:
    """A recipe as it is embedded."""
    return msgspec.json.encode(tables).decode()


def numbers_of(path: Path) -> Path:
    """The file with the numbers of an OpenVINO network."""
    return path.with_suffix(".bin")


def check_numbers(path: Path) -> None:
    """Check that an OpenVINO network's numbers are there and those that it was exported with.

    Raises:
        WeightsError: they are not.
    """
    numbers = numbers_of(path)
    try:
        wanted = _of_openvino(path, NUMBERS_KEY)
        found = sha256_of(numbers)
    except FileNotFoundError as error:
        beside = f": it belongs beside {path.name}" if error.filename == str(numbers) else ""
        raise WeightsError(f"{error.filename}: no such file{beside}") from None
    except OSError as error:
        raise WeightsError(f"{error.filename} cannot be read: {error.strerror}") from None
    except ValueError:
        raise WeightsError(f"{path} is damaged, or not an exported network") from None
    if wanted is not None and wanted != found:
        raise WeightsError(f"{numbers} is damaged, or of another network than {path}")


def _of_openvino(path: Path, key: tuple[str, str]) -> str | None:
    content = path.read_bytes()
    begin = content.rfind(b"<rt_info>")  # the network's own comes last
    end = content.find(b"</rt_info>", begin)
    if not content.lstrip().startswith(b"<?xml") or b"</net>" not in content[-100:]:
        raise ValueError(path)
    if begin < 0 or end < 0:
        return None
    try:
        found = ElementTree.fromstring(content[begin:end] + b"</rt_info>")  # noqa: S314  # no DTD here
    except ElementTree.ParseError:
        raise ValueError(path) from None
    element = found.find("/".join(key))
    return None if element is None else element.get("value")


def _of_onnx(path: Path) -> str | None:
    found = None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        for number, content in _fields(file, size, {_METADATA_PROPS}):
            entry = dict(_fields_of(content)) if number == _METADATA_PROPS else {}
            if entry.get(1) == RECIPE_KEY.encode():
                found = entry.get(2, b"").decode()
    return found


def _fields(file: BinaryIO, end: int, wanted: set[int]) -> Iterator[tuple[int, bytes]]:
    """The wanted fields of a protobuf message that ends there; the others are passed over.

    Raises:
        ValueError, EOFError: it is damaged.
    """
    while file.tell() < end:
        number, kind = divmod(_varint(file), 8)
        if kind == _VARINT:
            _varint(file)
            continue
        lengths = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
        length = _varint(file) if kind == _BYTES else lengths.get(kind, -1)
        if length < 0 or file.tell() + length > end:
            raise ValueError(number)
        if number in wanted and kind == _BYTES:
            if length > _MOST_BYTES:
                raise ValueError(number)
            yield number, file.read(length)
        else:
            file.seek(length, os.SEEK_CUR)


def _fields_of(content: bytes) -> Iterator[tuple[int, bytes]]:
    yield from _fields(io.BytesIO(content), len(content), {1, 2})


def _varint(file: BinaryIO) -> int:
    value = 0
    for place in range(_MOST_VARINT):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return value
    raise ValueError(value)


def _field(number: int, content: bytes) -> bytes:
    return _as_varint(number * 8 + _BYTES) + _as_varint(len(content)) + content


def _as_varint(value: int) -> bytes:
    pieces = []
    while value >= 0x80:
        pieces.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*pieces, value])
