"""One process at a time: locks that the system releases when a process ends, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from posepipe.errors import DocumentError, PosepipeError
from posepipe.io.jsonfiles import cannot_write, remove_leftovers


class Lock:
    """A lock that is held; `release` gives it up, and so does the end of the process.

    Args:
        path: the lock's own file, in an existing folder; made here, and removed by `release`.
        refusal: raised if another process holds it.

    Raises:
        PosepipeError: `refusal`.
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, refusal: PosepipeError) -> None:
        self._path = path
        self._lock = FileLock(path)
        while True:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                if path.exists():
                    raise refusal from None
                path.touch()  # just given up; or it cannot be made, and this says why
                continue
            except NotImplementedError:  # a file system without locks
                return
            if path.exists():
                return
            self._lock.release()  # whoever held it has just removed the file: nobody sees this one

    def release(self) -> None:
        """Give it up; a second call does nothing."""
        if self._lock.is_locked:
            with suppress(OSError):  # Windows removes no file that is open
                self._path.unlink(missing_ok=True)
        self._lock.release()


@contextmanager
def output_held(output: Path) -> Iterator[None]:
    """Hold a file or folder to be written for this process; leftovers of killed ones are removed.

    Args:
        output: the file or folder, there already or not.

    Raises:
        DocumentError: another process holds it, or nothing can be written beside it.
    """
    busy = DocumentError(f"another process is writing {output}: wait for it, or name another one")
    place = output.resolve()
    try:
        lock = Lock(place.with_name(f".{place.name}.lock"), busy)
    except OSError as error:
        raise cannot_write(output, error) from None
    try:
        remove_leftovers(place)
        yield
    finally:
        lock.release()
