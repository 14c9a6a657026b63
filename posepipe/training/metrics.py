"""What a run has measured: rows of CSV files, and curves for TensorBoard if it is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posepipe.errors import DocumentError
from posepipe.io.jsonfiles import read_bytes, write_whole

METRICS_FILE = "metrics.csv"
MINED_FILE = "mined.csv"
CURVES_FOLDER = "tensorboard"
# The first column of every file: how far the run was.
SAMPLES = "samples"


class MetricsLog:
    """Rows and curves of a run folder; a run that goes on drops what came after its checkpoint.

    Args:
        folder: the run's.
        samples: where the run goes on; later points of curves are dropped.
        measured: where its last measurement was; rows of later ones are dropped.

    Raises:
        DocumentError: the files cannot be written.
    """

    def __init__(self, folder: Path, *, samples: int, measured: int) -> None:
        self._folder = folder
        for name in (METRICS_FILE, MINED_FILE):
            _drop_later_rows(folder / name, measured)
        self._curves = _curves(folder / CURVES_FOLDER, samples)

    def row(self, file: str, samples: int, values: Mapping[str, float]) -> None:
        """One more row of a CSV file, `samples` being its first column.

        Raises:
            DocumentError: disk full or no permission.
        """
        path = self._folder / file
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        if not path.exists():
            writer.writerow([SAMPLES, *values])
        writer.writerow([str(samples), *(f"{value:.6g}" for value in values.values())])
        before = read_bytes(path) if path.exists() else b""
        write_whole(path, [before, buffer.getvalue().encode()])

    def curve(self, name: str, value: float, samples: int) -> None:
        """One more point of a curve."""
        if self._curves is not None:
            self._curves.add_scalar(name, value, samples)

    def close(self) -> None:
        """Write what is still in memory."""
        if self._curves is not None:
            self._curves.close()


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of a run; none where there is no file.

    Raises:
        DocumentError: it cannot be read, or is not one.
    """
    if not path.exists():
        return []
    text = read_bytes(path).decode("utf-8", "replace")
    try:
        reader = csv.DictReader(io.StringIO(text, newline=""))
        rows = list(reader)
    except csv.Error as error:
        raise DocumentError(f"{path} is damaged ({error}): mend or remove it") from None
    if SAMPLES not in (reader.fieldnames or ()):
        raise DocumentError(f"{path} is damaged (it has no column {SAMPLES}): mend or remove it")
    return rows


def _drop_later_rows(path: Path, measured: int) -> None:
    rows = read_rows(path)
    kept = [row for row in rows if 0 <= _samples_of(row) <= measured]
    if len(kept) == len(rows):
        return
    if not kept:
        path.unlink()
        return
    buffer = io.StringIO()
    names = [name for name in rows[0] if name is not None]  # None: cells without a name
    writer = csv.DictWriter(buffer, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(kept)
    write_whole(path, [buffer.getvalue().encode()])


def _samples_of(row: Mapping[str, str]) -> int:
    text = row[SAMPLES] or ""
    return int(text) if text.isdecimal() and len(text) <= 15 else -1


def _curves(folder: Path, samples: int) -> Any:
    """TensorBoard's writer; None where it is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    writer: Any = SummaryWriter(str(folder), purge_step=samples)
    return writer
