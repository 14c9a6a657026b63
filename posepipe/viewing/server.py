"""The page over HTTP, for the browser on this machine."""

from __future__ import annotations

import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any

from posepipe.errors import OptionError
from posepipe.viewing.site import TYPES, Site

LOOPBACK = "127.0.0.1"


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that no longer waits for an image, as it scrolled on, is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def make_server(site: Site, *, host: str = LOOPBACK, port: int = 0) -> ThreadingHTTPServer:
    """A server of the page; `serve_forever` runs it, and its `server_port` is the port.

    Args:
        site: the page.
        host: the address to listen on. Anything but the loopback address shows the images to
            whoever reaches this machine.
        port: 0 takes a free one.

    Raises:
        OptionError: the address or port is not available.
    """

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # a connection is kept for the next image
        timeout = 30  # a client that says nothing more is dropped

        def do_GET(self) -> None:
            """Answer with one of the site's files."""
            route = self.path.split("?", 1)[0].lstrip("/") or "index.html"
            local = self.headers.get("Host", "").rsplit(":", 1)[0]
            # A page elsewhere that makes its own name point here must not read the images.
            foreign = host == LOOPBACK and local not in (LOOPBACK, "localhost")
            content = None if foreign else site.file(route)
            if content is None:
                self.send_error(HTTPStatus.FORBIDDEN if foreign else HTTPStatus.NOT_FOUND)
                return
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", TYPES[PurePosixPath(route).suffix])
            self.send_header("Content-Length", str(len(content)))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # the base class's name
            """Say nothing."""

    try:
        return _Server((host, port), Handler)
    except (OSError, OverflowError) as error:
        raise OptionError(f"no server at {host}, port {port}: {error}: name another port") from None
