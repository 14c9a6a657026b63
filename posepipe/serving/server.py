"""The app behind a socket: uvicorn, which is not left waiting for clients that do nothing."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from posepipe.errors import OptionError
from posepipe.serving.options import ServeOptions

_HEADER_SECONDS = 10.0
_READING_SECONDS = 30.0
_SPARE_CONNECTIONS = 64  # for /health and /metrics, and for telling others that there is no room


class Server:
    """A service on a socket of its own.

    Args:
        app: of `posepipe.serving.app.create_app`.
        options: its limits.
        host: the address to listen on.
        port: 0 takes a free one.
        log: called with every line that the server says: warnings, and requests if asked for.
        requests: whether every request is a line.

    Attributes:
        port: the port that it listens on.

    Raises:
        OptionError: the address or port is not available.
    """

    def __init__(
        self,
        app: FastAPI,
        options: ServeOptions,
        *,
        host: str,
        port: int,
        log: Callable[[str], None] = lambda line: None,
        requests: bool = False,
    ) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            self._socket = socket.create_server((host, port), family=family, backlog=2048)
        except (OSError, OverflowError) as error:
            raise OptionError(
                f"no server at {host}, port {port}: {error}: name another port"
            ) from None
        self.port: int = self._socket.getsockname()[1]
        self._handler = _Lines(log)
        names = ("uvicorn.error", "uvicorn.access") if requests else ("uvicorn.error",)
        self._loggers = [logging.getLogger(name) for name in names]
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_BoundedProtocol,
                ws="none",
                log_config=None,
                access_log=requests,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=2 * options.queue + _SPARE_CONNECTIONS,
                timeout_keep_alive=5,
                timeout_graceful_shutdown=math.ceil(options.timeout),
            )
        )

    def run(self) -> None:
        """Serve until a signal or `stop`; then finish the requests at work, and no others.

        Raises:
            KeyboardInterrupt: there was a signal; everything is finished.
        """
        for logger in self._loggers:
            logger.addHandler(self._handler)
            logger.propagate = False
            logger.setLevel(logging.INFO if logger.name.endswith("access") else logging.WARNING)
        try:
            self._uvicorn.run(sockets=[self._socket])
        finally:
            for logger in self._loggers:
                logger.removeHandler(self._handler)
                logger.propagate = True
            self._socket.close()

    def stop(self) -> None:
        """End `run`, from another thread, as a signal does."""
        self._uvicorn.should_exit = True


class _Lines(logging.Handler):
    def __init__(self, log: Callable[[str], None]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        cause = "" if error is None else f": {type(error).__name__}: {error}"
        self._log(record.getMessage().rstrip() + cause)


class _BoundedProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on who does not come to the end of a header, or reads no answer.

    uvicorn itself has a limit only between requests.
    """

    _hang_up: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """A client has come."""
        super().connection_made(transport)
        self._watch_header()

    def data_received(self, data: bytes) -> None:
        """Something came from it."""
        super().data_received(data)
        self._watch_header()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        self._forget()
        self._has_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """It reads more slowly than the answer comes."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(_READING_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """It has caught up."""
        self._has_read()
        super().resume_writing()

    def _watch_header(self) -> None:
        if self.conn.their_state is not h11.IDLE:
            self._forget()
        elif self._hang_up is None:
            self._hang_up = self.loop.call_later(_HEADER_SECONDS, self.transport.close)

    def _has_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _forget(self) -> None:
        if self._hang_up is not None:
            self._hang_up.cancel()
            self._hang_up = None
