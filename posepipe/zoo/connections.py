"""What servers answer when they are asked for a file, and what may go wrong with it."""

from __future__ import annotations

import http.client
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import urlsplit

SCHEMES = ("https", "http", "file")
CHUNK = 1 << 18
_SLOWEST = 256  # bytes a second; what is slower than that for `timeout_s` has stalled
_TRY_AGAIN = (408, 425, 429)  # HTTP statuses below 500 that may be gone in a moment


@dataclass(frozen=True, kw_only=True)
class Patience:
    """When a transfer is given up.

    Attributes:
        timeout_s: seconds without a byte, or with next to none, that count as a failure.
        attempts: failures in a row, nothing having arrived in between, before the next mirror.
        pause_s: seconds before a second attempt; doubled before each further one.
    """

    timeout_s: float = 30.0
    attempts: int = 4
    pause_s: float = 1.0


class Failed(Exception):  # noqa: N818  # `posepipe.zoo.downloads` turns it into an error of ours
    """This place does not give the file."""


class Broken(Failed):
    """It may give it, if asked again."""


class NoAnswer(Broken):
    """Nobody answers there."""


class NoSuchRange(Broken):
    """The file ends before the range that was asked for."""


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to what anybody on the way can read and change."""

    def redirect_request(
        self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after != "https" and not (before == after == "http"):
            raise Failed(f"leads from {before} to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def is_open_to_forgery(url: str) -> bool:
    """Whether anybody between here and the server can change what it sends."""
    return re.match(r"http:(?!//(localhost|127\.0\.0\.1|\[::1\])([:/]|$))", url) is not None


@contextmanager
def opened(url: str, headers: dict[str, str], patience: Patience) -> Iterator[Any]:
    """The server's answer to a request.

    Args:
        url: https, http or file.
        headers: of the request.
        patience: how long to wait.

    Raises:
        Failed: it has no such file, nobody answers, or the certificate is not trusted.
    """
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # schemes are checked
        response = opener.open(request, timeout=patience.timeout_s)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:
            raise NoSuchRange("the part that was here is longer than the file") from None
        kind = Broken if error.code in _TRY_AGAIN or error.code >= 500 else Failed
        raise kind(f"HTTP {error.code}, {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: a URL's parts
        raise _unanswered(error, patience) from None
    with response:
        yield response


def _unanswered(error: Exception, patience: Patience) -> Failed:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return Failed(f"its certificate is not trusted: {reason.verify_message}")
    if isinstance(reason, TimeoutError):
        return NoAnswer(f"no answer within {patience.timeout_s:g} s")
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return NoAnswer(f"no connection: {text}: is the network away?")


def chunks(response: Any, patience: Patience) -> Iterator[bytes]:
    """A response's bytes as they come.

    Raises:
        Broken: the connection broke, or brings next to nothing.
    """
    began, recent = time.monotonic(), 0
    while True:
        try:
            chunk = response.read1(CHUNK)
        except TimeoutError:
            raise Broken(f"stalled: nothing for {patience.timeout_s:g} s") from None
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"broke off: {str(error) or type(error).__name__}") from None
        if not chunk:
            return
        yield chunk
        recent += len(chunk)
        elapsed = time.monotonic() - began
        if elapsed >= patience.timeout_s:
            if recent < _SLOWEST * elapsed:
                raise Broken(f"stalled: {recent} bytes in {elapsed:.0f} s")
            began, recent = time.monotonic(), 0


def total_bytes(response: Any, start: int) -> int | None:
    """How long the whole file is, if the server says.

    Args:
        response: to a request for the file from byte `start` on.
        start: -1 comes back for a range that does not begin there.
    """
    if response.status == 206:
        stated = re.fullmatch(
            r"bytes (\d{1,15})-\d{1,15}/(\d{1,15})", response.headers.get("Content-Range", "")
        )
        return int(stated[2]) if stated and int(stated[1]) == start else -1
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,15}", length) else None


def validator(response: Any) -> str:
    """What `If-Range` takes: a strong ETag, else the date of the last change, else nothing."""
    tag: str = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return str(response.headers.get("Last-Modified", ""))
