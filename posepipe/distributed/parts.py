"""What a distributed run has finished: Parquet files in a folder beside the output, any order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from posepipe.errors import DocumentError
from posepipe.io.checked_lines import decode_line
from posepipe.io.journal import differences
from posepipe.io.jsonfiles import cannot_write, check_output, read_bytes, write_whole
from posepipe.io.locks import Lock
from posepipe.io.shards import Header, ShardEntry

T = TypeVar("T")

SUFFIX = ".parts"
SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("people", pa.int32()),
        ("skipped", pa.string()),
        ("line", pa.binary()),
    ]
)
_HEADER_FILE = "run.json"
_FILES_IN_MEMORY = 32


class Parts:
    """The folder ``kps.json.parts`` of one run, held by this process; a context manager.

    A part appears whole or not at all, so what is there is finished. Columns: `position` of the
    image in the run, `people` in it, `skipped` (why, "" if it was not), and `line`, a
    `posepipe.io.shards.ShardEntry` with its checksum.

    Args:
        output: the file that the run is going to write.
        header: of the run.
        resume: whether to go on from what an interrupted run left.

    Attributes:
        header: of the run.
        done: (D,) int64, the positions that are finished, sorted.

    Raises:
        DocumentError: an interrupted run left a folder and this is no `resume`, or it was another
            run; another process is writing; or the folder cannot be written.
    """

    def __init__(self, output: Path, header: Header, *, resume: bool) -> None:
        check_output(output)
        self.header = header
        self.folder = output.with_name(output.name + SUFFIX)
        busy = DocumentError(f"another run is writing {output}: wait for it, or choose another")
        try:
            self._lock = Lock(output.with_name(f".{self.folder.name}.lock"), busy)
        except OSError as error:
            raise cannot_write(self.folder, error) from None
        try:
            self.done = self._taken_up(resume=resume)
        except BaseException:
            self._lock.release()
            raise
        self._number = len(self._files)

    def _taken_up(self, *, resume: bool) -> npt.NDArray[np.int64]:
        """Make the folder, or take up an interrupted run's; gives the positions that are done."""
        if self.folder.is_dir() and not resume:
            raise DocumentError(
                f"{self.folder} is left from an interrupted run: continue it with --resume, or "
                "delete it to start over"
            )
        try:
            self.folder.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from None
        place = self.folder / _HEADER_FILE
        if place.is_file():
            self._compare(read_bytes(place), place)
        else:
            write_whole(place, [msgspec.json.encode(self.header)])
        return np.unique(np.concatenate([*map(_positions, self._files), np.zeros(0, np.int64)]))

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write finished images as one more part.

        Raises:
            DocumentError: it cannot be written.
        """
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), buffer)
        write_whole(self.folder / f"part-{self._number:06d}.parquet", [buffer.getvalue()])
        self._number += 1

    def entries(self, kind: type[T]) -> Iterator[ShardEntry[T]]:
        """Every image in the order of the run; may be asked for again.

        Args:
            kind: the type of the results.

        Raises:
            DocumentError: a part is damaged, or an image is in none.
        """
        files = self._files
        positions = [_positions(file) for file in files]
        everywhere = np.concatenate([*positions, np.zeros(0, np.int64)])
        where, first = np.unique(everywhere, return_index=True)
        if not np.array_equal(where, np.arange(self.header.images)):
            raise DocumentError(f"{self.folder} lacks images: go on with --resume")
        starts = np.cumsum([0, *map(len, positions)])
        lines_of = lru_cache(_FILES_IN_MEMORY)(_lines)
        for place in first.tolist():
            file = int(np.searchsorted(starts, place, side="right")) - 1
            line = lines_of(files[file])[place - int(starts[file])].as_py()
            entry = decode_line(line, ShardEntry[kind])  # type: ignore[valid-type]  # a type known at run time only
            if entry is None:
                raise DocumentError(f"{files[file]} is damaged: delete it, go on with --resume")
            yield entry

    def remove(self) -> None:
        """Remove the folder: the output is written."""
        shutil.rmtree(self.folder)

    @property
    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("part-*.parquet"))

    def _compare(self, data: bytes, place: Path) -> None:
        try:
            then = msgspec.json.decode(data, type=Header)
        except (msgspec.DecodeError, ValueError):
            raise DocumentError(f"{place} is damaged: delete {self.folder}, start over") from None
        differing = differences(then.fingerprint, self.header.fingerprint)
        if differing:
            raise DocumentError(
                f"{self.folder} is of another run ({differing}): resume with what it was begun "
                "with, or delete it"
            )


def _positions(file: Path) -> npt.NDArray[np.int64]:
    try:
        column = pq.read_table(file, columns=["position"])["position"]
    except (pa.ArrowException, OSError) as error:
        raise DocumentError(
            f"{file} cannot be read ({str(error).splitlines()[0]}): delete it, go on with --resume"
        ) from None
    positions: npt.NDArray[np.int64] = column.to_numpy()
    return positions


def _lines(file: Path) -> Any:
    return pq.read_table(file, columns=["line"])["line"]
