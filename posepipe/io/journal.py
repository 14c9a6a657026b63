"""The journal of a run: what is finished so far, kept beside the output until that is written.

A text file, ``boxes.json.journal`` beside ``boxes.json``: a header with the fingerprint of the run,
then one line per finished image, each a checksum and JSON. A run that ends early, however it
ends, leaves it behind, and a later one goes on from it: numbers are kept in full, so that the final
file is the same to the last byte. A line that is not what was written is dropped, and its image
done again.

Not SQLite: it finds no damage inside its pages, and would need a checksum a row as well.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import msgspec

from posepipe.errors import DocumentError
from posepipe.io.checked_lines import decode_line, encode_line
from posepipe.io.images import ImageFile
from posepipe.io.jsonfiles import cannot_write, check_output, remove_leftovers
from posepipe.io.locks import Lock

FORMAT_VERSION = 2
SUFFIX = ".journal"
# Each entry reaches the system at once, so it survives the program's end; and the disk within
# this time, so little is lost when the power fails.
SECONDS_TO_DISK = 1.0

T = TypeVar("T")


class Entry(msgspec.Struct, Generic[T], frozen=True):
    """A finished image.

    Attributes:
        image_id: which one.
        result: what came of it: a noun, or a msgspec Struct or dataclass with nouns in it; None
            if the image was skipped.
        skipped: why it was skipped, "" if it was not.
    """

    image_id: int
    result: T | None = None
    skipped: str = ""


class Journal(Generic[T]):
    """The journal of one run, open and locked; also a context manager that closes it.

    Attributes:
        path: the journal's own path.
        finished: by image id, what an interrupted run had finished.
        damaged: how many lines of that were damaged, and are left out of `finished`.
    """

    def __init__(
        self, path: Path, lock: Lock, file: FileIO, finished: Mapping[int, Entry[T]], damaged: int
    ) -> None:
        self.path = path
        self.finished = finished
        self.damaged = damaged
        self._lock = lock
        self._file = file
        self._written = len(finished)
        self._last_sync = time.monotonic()

    @classmethod
    def start(cls, output: str | Path, fingerprint: Mapping[str, Any]) -> Journal[T]:
        """A new journal for an output file.

        Args:
            output: the file that the run is going to write.
            fingerprint: everything that determines the result (models' SHA-256, settings, inputs),
                as JSON values; nested mappings are compared key by key.

        Raises:
            DocumentError: an interrupted run left a journal, another run is writing the same
                output, or the output or the journal cannot be written.
        """
        path, lock = _locked(Path(output))
        try:
            return cls._begun(path, lock, fingerprint)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def resume(
        cls, output: str | Path, fingerprint: Mapping[str, Any], kind: type[T]
    ) -> Journal[T]:
        """The journal that an interrupted run left, or a new one if there is none.

        A last line that was torn off in writing is dropped; so are damaged ones (see `damaged`).

        Args:
            output: the file that the run is going to write.
            fingerprint: as for `start`.
            kind: the type of the results.

        Raises:
            DocumentError: the interrupted run had another fingerprint (the message names what
                differs), the journal's first line is damaged, or as for `start`.
        """
        path, lock = _locked(Path(output))
        try:
            if path.exists():
                return cls._taken_up(path, lock, fingerprint, kind)
            return cls._begun(path, lock, fingerprint)
        except BaseException:
            lock.release()
            raise

    @classmethod
    def begin(
        cls,
        output: str | Path,
        fingerprint: Mapping[str, Any],
        kind: type[T],
        *,
        resume: bool,
        warn: Callable[[str], None],
        items: str = "images",
    ) -> Journal[T]:
        """`resume` or `start`, as asked for.

        Args:
            output: as for `resume`.
            fingerprint: likewise.
            kind: likewise.
            resume: which of the two.
            warn: told, in a line, that damaged lines are left out.
            items: what is done again then.

        Raises:
            DocumentError: as for `resume` or `start`.
        """
        if not resume:
            return cls.start(output, fingerprint)
        journal = cls.resume(output, fingerprint, kind)
        if journal.damaged:
            warn(
                f"{journal.path}: damaged lines are dropped ({journal.damaged}), and their {items} "
                "done again"
            )
        return journal

    @classmethod
    def _taken_up(
        cls, path: Path, lock: Lock, fingerprint: Mapping[str, Any], kind: type[T]
    ) -> Journal[T]:
        try:
            file = path.open("r+b", buffering=0)
        except OSError as error:
            raise DocumentError(f"{path} cannot be opened: {error.strerror}") from None
        try:
            *lines, torn = file.read().split(b"\n")
            if lines:
                _compare(_header(lines[0], path), fingerprint, path)
            entries = [decode_line(line, Entry[kind]) for line in lines[1:]]  # type: ignore[valid-type]  # a type known at run time only
            file.truncate(file.seek(-len(torn), os.SEEK_END))
            sound = {entry.image_id: entry for entry in entries if entry is not None}
            journal = cls(path, lock, file, sound, entries.count(None))
            if not lines:
                journal._write(_Header(FORMAT_VERSION, dict(fingerprint)))
        except BaseException:
            file.close()
            raise
        return journal

    @classmethod
    def _begun(cls, path: Path, lock: Lock, fingerprint: Mapping[str, Any]) -> Journal[T]:
        try:
            file = path.open("xb", buffering=0)
        except FileExistsError:
            raise DocumentError(
                f"{path} is left from an interrupted run: go on from it with --resume, or delete "
                "it to start over"
            ) from None
        except OSError as error:
            raise cannot_write(path, error) from None
        journal = cls(path, lock, file, {}, 0)
        journal._write(_Header(FORMAT_VERSION, dict(fingerprint)))
        return journal

    def append(self, entry: Entry[T]) -> None:
        """Note down a finished image.

        Raises:
            DocumentError: it cannot be written (the disk is full).
        """
        self._write(entry)
        self._written += 1

    def finish(self) -> None:
        """Remove the journal: the output is written."""
        self._file.close()
        self.path.unlink(missing_ok=True)
        self._lock.release()

    def close(self) -> None:
        """Keep the journal for a later `resume`, unless there is nothing in it."""
        if self._file.closed:
            return
        if self._written:
            self._file.close()
            self._lock.release()
        else:
            self.finish()

    def __enter__(self) -> Journal[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _write(self, record: object) -> None:
        line = memoryview(encode_line(record))
        end = self._file.tell()
        try:
            while line:  # a nearly full disk takes a part
                line = line[self._file.write(line) :]
            if time.monotonic() - self._last_sync >= SECONDS_TO_DISK:
                os.fsync(self._file.fileno())
                self._last_sync = time.monotonic()
        except OSError as error:
            self._file.truncate(self._file.seek(end))
            raise cannot_write(self.path, error) from None


def inputs_digest(images: Iterable[ImageFile]) -> str:
    """A SHA-256 of which images are worked on: ids, names and folders.

    A part of a fingerprint that stays short for 100,000 images. What is in the files does not
    count: a run that stopped at a damaged image goes on once that is mended.
    """
    digest = hashlib.sha256()
    for image in images:
        digest.update(repr((image.id, image.file_name, str(image.path.parent))).encode())
    return digest.hexdigest()


class _Header(msgspec.Struct, frozen=True):
    posepipe_journal: int
    fingerprint: dict[str, Any]


def _locked(output: Path) -> tuple[Path, Lock]:
    """The path of an output's journal, held for this process; leftovers of killed ones are removed.

    Raises:
        DocumentError: the output cannot be written, or another process is writing it.
    """
    check_output(output)
    path = output.with_name(output.name + SUFFIX)
    busy = DocumentError(f"another run is writing {output}: wait for it, or choose another output")
    try:
        lock = Lock(path.with_name(f".{path.name}.lock"), busy)
    except OSError as error:
        raise cannot_write(path, error) from None
    remove_leftovers(output)
    return path, lock


def _header(line: bytes, path: Path) -> _Header:
    header = decode_line(line, _Header)
    if header is None:
        raise DocumentError(
            f"{path} is damaged in its first line, or of another version of posepipe: delete it "
            "and start over"
        )
    return header


def _compare(header: _Header, fingerprint: Mapping[str, Any], path: Path) -> None:
    if header.posepipe_journal != FORMAT_VERSION:
        raise DocumentError(
            f"{path} has format {header.posepipe_journal}, this is {FORMAT_VERSION}: finish it "
            "with the version of posepipe that began it, or delete it"
        )
    differing = differences(header.fingerprint, fingerprint)
    if differing:
        raise DocumentError(
            f"{path} is of another run ({differing}): resume with what it was begun with, or "
            "delete it"
        )


def differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Where two fingerprints differ, key by key; "" where they do not.

    >>> differences({"models": ["a"], "set": {"flip": True}}, {"models": ["a"], "set": {}})
    'set.flip was True, is absent'
    """
    before, after = (_flat(msgspec.json.decode(msgspec.json.encode(tree))) for tree in (then, now))
    keys = [key for key in sorted(before | after) if before.get(key) != after.get(key)]
    return "; ".join(
        f"{key} was {_short(before.get(key))}, is {_short(after.get(key))}" for key in keys
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _short(value: object) -> str:
    text = "absent" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
