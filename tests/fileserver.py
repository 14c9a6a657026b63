"""A web server on this machine that serves files well, or badly in a way that a test asks for."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FileServer:
    """Files by their paths, the requests that were made, and what goes wrong with the next ones.

    Attributes:
        files: by path, which begins with "/".
        requests: path and headers of every request so far.
        faults: one for each coming request, in order; afterwards all goes well:

            - "404", "503" …: that status
            - "cut": half of what was asked for, then the end
            - "stall": half of it, then nothing until the server closes
            - "silent": no answer until the server closes
            - "slow": in pieces, over half a second
            - "whole": the whole file whatever range was asked for
            - "other length": as if the file had a byte more
            - "no length": the end of the connection is the end of the file
            - "absurd length": one of 5,000 digits
            - "endless": the file again and again, a thousand times
            - anything else: a redirect to it
        weak: whether the server names its versions in a way that ranges cannot rely on.
    """

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.faults: list[str] = []
        self.weak = False
        self.closing = threading.Event()

    @property
    def ranges(self) -> list[str | None]:
        """The range that each request asked for."""
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def file_server() -> Iterator[FileServer]:
    """A server for the time of a test."""
    server = _QuietServer(("127.0.0.1", 0), _Handler)
    server.files = files = FileServer(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield files
    finally:
        files.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = False  # joined as the server closes
    files: FileServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients may go away."""


class _Handler(BaseHTTPRequestHandler):
    server: _QuietServer

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        files = self.server.files
        files.requests.append((self.path, dict(self.headers)))
        fault = files.faults.pop(0) if files.faults else ""
        content = files.files.get(self.path)
        if fault == "silent":
            files.closing.wait(10)
            return
        if fault.isdecimal() or content is None:
            self.send_error(int(fault or 404))
            return
        if "://" in fault:
            self.send_response(302)
            self.send_header("Location", fault)
            self.end_headers()
            return
        self._send(content, fault)

    def _send(self, content: bytes, fault: str) -> None:
        files = self.server.files
        tag = f'"{sha256(content).hexdigest()[:16]}"'
        start = self._start(tag, fault)
        if start and start >= len(content):
            self.send_error(416)
            return
        total = len(content) + (fault == "other length")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if fault == "absurd length":
            self.send_header("Content-Length", "9" * 5000)
        elif fault not in ("no length", "endless"):
            self.send_header("Content-Length", str(len(content) - start))
        self.send_header("ETag", f"W/{tag}" if files.weak else tag)
        self.end_headers()
        body = content[start:]
        if fault in ("cut", "stall"):
            self.wfile.write(body[: len(body) // 2])
            if fault == "stall":
                files.closing.wait(10)
        elif fault == "slow":
            for piece in range(10):
                self.wfile.write(body[len(body) * piece // 10 : len(body) * (piece + 1) // 10])
                files.closing.wait(0.05)
        elif fault == "endless":
            with suppress(OSError):  # until nobody listens any more
                for _ in range(1000):
                    self.wfile.write(body)
        else:
            self.wfile.write(body)

    def _start(self, tag: str, fault: str) -> int:
        """Where to begin: a range is granted if the client's version is the one that is here."""
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked is None or fault == "whole" or self.headers.get("If-Range", tag) != tag:
            return 0
        return int(asked[1])
