"""JSON files: read with clear messages about what is wrong, written whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from posepipe.errors import DocumentError
from posepipe.io.reasons import reason

T = TypeVar("T")

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
NOT_UTF8 = "\ufffd"
"""What stands for the bytes of a name that are not UTF-8."""

_ESCAPES = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F]|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_ONLY_PYTHONS = re.compile(rb"\b(?:NaN|Infinity)\b|\\u[dD][89a-fA-F]")
_OTHER_KINDS = {
    b"\xff\xfe": "is UTF-16: save it as UTF-8",
    b"\xfe\xff": "is UTF-16: save it as UTF-8",
    b"\x1f\x8b": "is compressed (gzip): unpack it",
    b"PK\x03\x04": "is a zip archive: unpack it",
    b"<": "is HTML or XML: fetch or export it again as JSON",
}


_PLAINLY = {
    "Input data was truncated": "it ends too early",
    "trailing characters": "more text after its end",
    "object keys must be strings": "names need double quotes",
}


def read_bytes(path: Path) -> bytes:
    """A file's bytes, a byte order mark left out.

    Raises:
        DocumentError: missing, a folder, a device, forbidden or unreadable.
    """
    try:
        if path.is_char_device() or path.is_block_device():  # /dev/zero has no end
            raise DocumentError(f"{path} is a device: name a JSON file")
        return path.read_bytes().removeprefix(_BYTE_ORDER_MARK)
    except FileNotFoundError:
        raise DocumentError(f"{path}: no such file: check the path") from None
    except IsADirectoryError:
        raise DocumentError(f"{path} is a folder: name a JSON file") from None
    except OSError as error:
        raise DocumentError(f"{path} cannot be read: {error.strerror}") from None


def decode(data: bytes, kind: type[T], *, path: Path, what: str, lenient: bool = False) -> T:
    """A file's bytes as a `kind`, checked.

    Args:
        data: the bytes.
        kind: a msgspec-decodable type; fields of the file that it does not have are ignored.
        path: the file's name, for messages.
        what: what the file should be, for messages: "a COCO annotation file".
        lenient: whether what Python writes though it is not JSON is let through: NaN, Infinity, and
            halves of characters in names that are not UTF-8, which become `NOT_UTF8`.

    Raises:
        DocumentError: not JSON (with line and column), or of another shape (with the place).
    """
    try:
        try:
            return msgspec.json.decode(data, type=kind)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError as error:
            if lenient and _ONLY_PYTHONS.search(data):
                return msgspec.convert(json.loads(_ESCAPES.sub(_whole_only, data)), kind)
            raise DocumentError(f"{path} is not JSON: {_not_json(error, data)}") from None
    except msgspec.ValidationError as error:
        raise DocumentError(f"{path} is not {what}: {reason(error, kind)}") from None
    except UnicodeDecodeError:
        raise DocumentError(f"{path} is not JSON: it is not UTF-8: save it as UTF-8") from None
    except ValueError as error:  # json.loads: something else is wrong as well
        raise DocumentError(f"{path} is not JSON: {error}") from None
    except RecursionError:
        raise DocumentError(f"{path} is not {what}: it is nested too deeply") from None


def as_kind(data: bytes, kind: type[T]) -> T | None:
    """A file's bytes as a `kind`; None if they are not JSON, or of another shape."""
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):  # ValueError: not UTF-8
        return None


def decode_untyped(data: bytes, path: Path, what: str) -> Any:
    """A file's bytes as Python's own types; what Python's `json` writes is let through.

    Args:
        data: the bytes.
        path: the file's name, for messages.
        what: what the file should be, for messages.

    Raises:
        DocumentError: not JSON (with line and column), or nested too deeply.
    """
    return decode(data, Any, path=path, what=what, lenient=True)


def lines_of_array(items: Iterable[object]) -> Iterator[bytes]:
    """The JSON text of an array, one item a line, piece by piece."""
    opening = b"[\n"
    for item in items:
        yield opening + msgspec.json.encode(item)
        opening = b",\n"
    yield b"[]" if opening == b"[\n" else b"\n]"


def write_whole(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file so that it appears whole or not at all; until then an earlier one stays.

    The pieces go to a temporary file in the same folder, which takes the file's name once it is
    safely on the disk. A symbolic link is followed.

    Raises:
        DocumentError: no such folder, no permission, disk full.
    """
    _check_place(path)
    try:
        target = path.resolve()
        temporary = temporary_of(target)
        try:
            with temporary.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(path, error) from None


def temporary_of(target: Path) -> Path:
    """Where this process writes what takes a file's or folder's name once it is whole.

    Should the process be killed, `remove_leftovers` knows it by its name.
    """
    return target.with_name(f".{target.name}.{os.getpid()}.tmp")


def remove_leftovers(path: Path) -> None:
    """Remove what killed processes left while writing a file or folder, or any file inside it.

    For whoever holds the lock of that file or folder: nobody else is writing there.
    """
    whole = path.resolve()
    leftovers = [*whole.parent.glob(f".{glob.escape(whole.name)}.*.tmp")]
    if whole.is_dir():
        leftovers += whole.glob(".*.*.tmp")
    for leftover in leftovers:
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            with suppress(OSError):
                leftover.unlink()


def check_output(path: Path) -> None:
    """Check that a file can be written under this name, before the work whose result it will hold.

    Raises:
        DocumentError: it is a folder, a device, a pipe or a loop of links, its folder is not
            there or takes no files, or the disk is full.
    """
    try:
        _check_place(path)
        target = path.resolve()
        with tempfile.TemporaryFile(dir=target.parent) as file:
            file.write(b"\0")
            file.flush()
    except (OSError, RuntimeError) as error:  # RuntimeError: loops of links, until Python 3.13
        if isinstance(error, OSError):
            raise cannot_write(path, error) from None
        raise DocumentError(f"{path} cannot be written: it is a loop of links: remove it") from None


def _check_place(path: Path) -> None:
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or pipe"
        raise DocumentError(f"{path} is {kind}: name a file to write")
    if not path.parent.is_dir():
        raise DocumentError(f"{path} cannot be written: there is no folder {path.parent}: make it")


def cannot_write(path: Path, error: OSError) -> DocumentError:
    """The error of a file that could not be written, in one line."""
    return DocumentError(f"{path} cannot be written: {error.strerror}: nothing was changed")


def sync_folder(folder: Path) -> None:
    """Make a new name in a folder survive a power failure, where the system can do that."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems sync no folders; the file itself is safe
        pass
    finally:
        os.close(descriptor)


def _whole_only(escape: re.Match[bytes]) -> bytes:
    """A JSON escape; `NOT_UTF8`'s if it is half of a character."""
    return NOT_UTF8.encode("ascii", "backslashreplace") if escape["half"] else escape[0]


def _not_json(error: msgspec.DecodeError, data: bytes) -> str:
    """Why bytes are not JSON: what they are instead, or what is wrong at which place."""
    if not data.strip():
        return "it is empty"
    for beginning, kind in _OTHER_KINDS.items():
        if data.lstrip().startswith(beginning):
            return f"it {kind}"
    text = str(error)
    at_byte = re.search(r" \(byte (\d+)\)$", text)
    place = int(at_byte[1]) if at_byte else len(data)
    line = data.count(b"\n", 0, place) + 1
    column = place - (data.rfind(b"\n", 0, place) + 1) + 1
    what = text[: at_byte.start()] if at_byte else text
    what = what.removeprefix("JSON is malformed: ")
    return f"{_PLAINLY.get(what, what)} at line {line}, column {column}"
