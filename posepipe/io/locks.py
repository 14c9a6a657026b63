"""One process at a time: locks that the system releases when a process ends, however it ends."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from posepipe.errors import PosepipeError


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
                raise refusal from None
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
