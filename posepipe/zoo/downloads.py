"""Files fetched over the network: resumed, verified, and there whole or not at all.

What has arrived lies in ``FILE.part``, with a note beside it (``FILE.part.json``) of where it
comes from, so that an interrupted transfer goes on where it stopped and a file that has changed
meanwhile is started over. ``FILE`` appears once all of it is there and its checksum is right. Two
processes that want the same file take turns (``FILE.lock``): the second one finds it done.

urllib rather than a larger library: it lacks only what is written here
(resuming, stalls, mirrors), which other clients lack as well.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import msgspec
from filelock import FileLock, Timeout

from posepipe.errors import DownloadError
from posepipe.io.jsonfiles import as_kind
from posepipe.zoo.connections import (
    CHUNK,
    SCHEMES,
    Broken,
    Failed,
    NoAnswer,
    NoSuchRange,
    Patience,
    chunks,
    is_open_to_forgery,
    opened,
    total_bytes,
    validator,
)


class Watcher(Protocol):
    """Whoever wants to know how a transfer is getting on."""

    def transferred(self, done: int, total: int | None) -> None:
        """This many bytes of the file are here; `total` is None where the server does not say."""
        ...

    def notice(self, line: str) -> None:
        """Something that a waiting person may want to know: a mirror that failed, a pause."""
        ...


class Silent:
    """A `Watcher` that says nothing."""

    def transferred(self, done: int, total: int | None) -> None:
        """Nothing."""

    def notice(self, line: str) -> None:
        """Nothing."""


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What is known about a file before it is fetched; all in lower-case hexadecimal, "" unknown.

    Attributes:
        sha256: of the whole file.
        sha256_from: who says so, for messages.
        sha256_prefix: the beginning of its SHA-256.
        md5_prefix: the beginning of its MD5; finds damage, does not stop a forger.
        max_bytes: of a longer file, no more than this is fetched.
    """

    sha256: str = ""
    sha256_from: str = ""
    sha256_prefix: str = ""
    md5_prefix: str = ""
    max_bytes: int = 8 * 10**9

    def __bool__(self) -> bool:
        return bool(self.sha256 or self.sha256_prefix or self.md5_prefix)

    def problem(self, digests: Digests) -> str:
        """What is wrong with a file of these digests, in a few words; "" if nothing is."""
        says = f" ({self.sha256_from})" if self.sha256_from else ""
        rules = (
            ("SHA-256", self.sha256, digests.sha256, says),
            ("SHA-256", self.sha256_prefix, digests.sha256, ""),
            ("MD5", self.md5_prefix, digests.md5, ""),
        )
        for kind, wanted, found, source in rules:
            if not found.startswith(wanted):
                return f"its {kind} is {found[:12]}…, not {wanted[:12]}…{source}"
        return ""


@dataclass(frozen=True)
class Digests:
    """The checksums of a file's bytes, in lower-case hexadecimal."""

    sha256: str
    md5: str


def fetch(
    urls: Sequence[str],
    target: Path,
    *,
    checks: Checks | None = None,
    patience: Patience | None = None,
    watcher: Watcher | None = None,
) -> str:
    """Bring a file here, from the first of several places that has it.

    A part that an earlier call left is resumed. Nothing is done if the file is there already,
    except that it is checked.

    Args:
        urls: https, http or file; tried in order.
        target: where the file will be; its folder is made.
        checks: what is known about it.
        patience: when to give up.
        watcher: called with the progress.

    Returns:
        The file's SHA-256.

    Raises:
        DownloadError: no place has it, it is not the right file, or it cannot be written; what has
            arrived is kept.
    """
    checks, watcher = Checks() if checks is None else checks, watcher or Silent()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, watcher):
            if target.is_file():
                return check_file(target, checks)
            return _fetch_from_any(urls, target, checks, patience or Patience(), watcher)
    except OSError as error:
        place = error.filename or target.parent
        kept = f"; what has arrived is kept in {part}" if (part := part_of(target)).exists() else ""
        raise DownloadError(f"{place} cannot be written: {error.strerror or error}{kept}") from None


def part_of(target: Path) -> Path:
    """Where the bytes of a file lie that has not fully arrived."""
    return target.with_name(f"{target.name}.part")


@contextmanager
def _alone(target: Path, watcher: Watcher) -> Iterator[None]:
    """Keep other processes and threads from fetching the same file."""
    lock = FileLock(target.with_name(f"{target.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        watcher.notice(f"another process is fetching {target.name}: waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def check_file(target: Path, checks: Checks) -> str:
    """The SHA-256 of a file that is here.

    Raises:
        DownloadError: it is not the right one.
    """
    digests = _Digester.of_file(target).digests
    if reason := checks.problem(digests):
        raise DownloadError(f"{target} is damaged or another file: {reason}; remove it")
    return digests.sha256


def _fetch_from_any(
    urls: Sequence[str], target: Path, checks: Checks, patience: Patience, watcher: Watcher
) -> str:
    failures = []
    for url in urls:
        try:
            return _fetch_from(url, target, checks, patience, watcher)
        except Failed as failure:
            failures.append(f"{url}: {failure}")
            if len(failures) < len(urls):
                watcher.notice(f"{failures[-1]}: trying the next place")
    raise DownloadError(
        f"{target.name} cannot be fetched ({'; '.join(failures)}): try again later, or bring the "
        f"file by hand and put it at {target}"
    )


def _fetch_from(
    url: str, target: Path, checks: Checks, patience: Patience, watcher: Watcher
) -> str:
    """Fetch from one place, with as many attempts as it deserves; the file's SHA-256."""
    if url.partition(":")[0] not in SCHEMES:
        raise Failed(f"is not one of {', '.join(SCHEMES)}")
    if not checks.sha256 and is_open_to_forgery(url) and target.suffix != ".safetensors":
        raise Failed(
            "is not https, and no full SHA-256 is known that would tell a forged pickle: pin it "
            "(`posepipe models fetch --pin`) where it is known to be right"
        )
    part = _Part(target)
    failures, ever_gained = 0, False
    while True:
        before = part.size
        try:
            digests, resumed = _transfer(url, part, checks, patience, watcher)
        except Broken as failure:
            if isinstance(failure, NoSuchRange):
                part.remove()
            gained = part.size > before
            ever_gained |= gained
            failures = 1 if gained else failures + 1
            if failures >= patience.attempts or (isinstance(failure, NoAnswer) and not ever_gained):
                raise
            watcher.notice(f"{url}: {failure}: trying again")
            time.sleep(patience.pause_s * 2 ** (failures - 1))
            continue
        reason = checks.problem(digests)
        if not reason:
            part.become(target)
            return digests.sha256
        part.remove()
        if not resumed:
            raise Failed(f"it is damaged there, or another file: {reason}")
        watcher.notice(f"{url}: what was here did not belong to it: starting over")


def _transfer(
    url: str, part: _Part, checks: Checks, patience: Patience, watcher: Watcher
) -> tuple[Digests, bool]:
    """The rest of a file into its part; its digests, and whether a part was resumed.

    A part is resumed where the server can tell that the file is still the same, or where its
    length is and the checksum will tell.
    """
    origin, start = part.origin, part.size
    condition = origin.validator if origin and origin.url == url else ""
    if not (origin and start and (condition or checks)):
        start = 0
    if origin and start and start == origin.length:  # all is here but the checksum
        return _Digester.of_file(part.path).digests, True
    headers = {"User-Agent": "posepipe", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if condition:
            headers["If-Range"] = condition
    with opened(url, headers, patience) as response:
        total = total_bytes(response, start)
        if start and response.status != 206:  # no support for ranges, or the file has changed
            start = 0
        elif start and origin and total != origin.length:
            part.remove()
            raise Broken("the file has another length there")
        if total is not None and total > checks.max_bytes:
            raise _too_long(part, checks)
        part.check_room(total, start)
        digester = _Digester.of_file(part.path) if start else _Digester()
        if not start:
            part.begin(_Origin(url, validator(response), total))
        done = start
        watcher.transferred(done, total)
        with part.path.open("ab" if start else "wb") as file:
            for chunk in chunks(response, patience):
                done += len(chunk)
                if done > checks.max_bytes:
                    raise _too_long(part, checks)
                file.write(chunk)
                digester.update(chunk)
                watcher.transferred(done, total)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and done != total:
        raise Broken(f"ended after {done} of {total} bytes")
    return digester.digests, start > 0


def _too_long(part: _Part, checks: Checks) -> Failed:
    part.remove()
    return Failed(
        f"it is longer there than the {checks.max_bytes / 1e6:.0f} MB that its recipe allows "
        "([weights] megabytes)"
    )


class _Origin(msgspec.Struct, frozen=True):
    """Where a part comes from: `validator` is what the server calls this version of the file."""

    url: str
    validator: str
    length: int | None


class _Part:
    """The bytes of a file that have arrived, and the note of where they come from."""

    def __init__(self, target: Path) -> None:
        self.path = part_of(target)
        self._note = target.with_name(f"{target.name}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    @property
    def origin(self) -> _Origin | None:
        try:
            return as_kind(self._note.read_bytes(), _Origin)
        except FileNotFoundError:
            return None

    def begin(self, origin: _Origin) -> None:
        self.remove()
        self._note.write_bytes(msgspec.json.encode(origin))

    def remove(self) -> None:
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def become(self, target: Path) -> None:
        self.path.replace(target)
        self._note.unlink(missing_ok=True)

    def check_room(self, total: int | None, start: int) -> None:
        """Check that the disk has room for the rest of the file."""
        free = shutil.disk_usage(self.path.parent).free + self.size - start
        needed = (total or 0) - start
        if needed > free:
            raise DownloadError(
                f"no room in {self.path.parent}: {needed / 1e6:.0f} MB are needed, "
                f"{free / 1e6:.0f} MB free; make room, or name another folder with POSEPIPE_CACHE"
            )


@dataclass
class _Digester:
    _sha256: Any = field(default_factory=hashlib.sha256)
    _md5: Any = field(default_factory=lambda: hashlib.md5(usedforsecurity=False))

    @classmethod
    def of_file(cls, path: Path) -> _Digester:
        digester = cls()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digester.update(chunk)
        return digester

    def update(self, chunk: bytes) -> None:
        self._sha256.update(chunk)
        self._md5.update(chunk)

    @property
    def digests(self) -> Digests:
        return Digests(self._sha256.hexdigest(), self._md5.hexdigest())
