"""Services on sockets of their own, over people that take no time."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from builders import poses
from PIL import Image

from posepipe.core.poses import Poses
from posepipe.io.images import ImageFile
from posepipe.serving.app import create_app
from posepipe.serving.options import ServeOptions
from posepipe.serving.server import Server

SECONDS = 60  # after which a test that waits for something has failed


@dataclass
class Someone:
    """Finds one person in each image, whose score says which image it is (see `png`).

    Attributes:
        go: while it is not set, nobody is found.
        batches: how many images came together, each time.
    """

    go: threading.Event = field(default_factory=threading.Event)
    batches: list[int] = field(default_factory=list)
    fails_on: int | None = None

    def stream(self, images: Iterable[ImageFile], *, workers: int) -> Iterator[Any]:
        images = list(images)
        self.batches.append(len(images))
        assert self.go.wait(SECONDS)
        for image in images:
            number = int.from_bytes(image.read()[0, 0].tobytes(), "big")
            if number == self.fails_on:
                raise RuntimeError("this image alone")
            found = poses(image.id, 1)
            score = np.array([number / 1e6])
            yield image, Poses(image.id, found.keypoints, score, found.boxes_xyxy, score)


@dataclass
class Running:
    """A service that runs.

    Attributes:
        client: of it.
        port: its port.
        people: what it asks.
        server: itself.
        lines: what it said.
    """

    client: httpx.Client
    port: int
    people: Any
    server: Server
    thread: threading.Thread
    lines: list[str]

    def metric(self, name: str, **labels: str) -> float:
        """A number of /metrics; 0 if it is not there."""
        inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
        wanted = f"{name}{{{inside}}} " if labels else f"{name} "
        lines = self.client.get("/metrics").text.splitlines()
        return float(next((ln.split()[-1] for ln in lines if ln.startswith(wanted)), 0))

    def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait for something, but not for ever."""
        deadline = time.monotonic() + SECONDS
        while not holds():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def is_idle(self) -> bool:
        """Whether no request holds anything."""
        return self.metric("posepipe_requests_at_work") == self.metric("posepipe_held_bytes") == 0


@contextmanager
def running(people: Any, **options: Any) -> Iterator[Running]:
    """A service over `people`, in a thread, until the block's end."""
    limits, lines = ServeOptions(**options), []
    app = create_app(people, limits, about={"version": "1"})
    server = Server(app, limits, host="127.0.0.1", port=0, log=lines.append)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.port}"
    # No connection waits for a next request, or the server may just have closed it.
    afresh = httpx.Limits(max_keepalive_connections=0)
    try:
        with httpx.Client(base_url=address, timeout=SECONDS, limits=afresh) as client:
            yield Running(client, server.port, people, server, thread, lines)
    finally:
        if isinstance(people, Someone):
            people.go.set()
        server.stop()
        thread.join(SECONDS)
        assert not thread.is_alive()


@pytest.fixture
def serve() -> Iterator[Callable[..., Running]]:
    """Starts services over `Someone`; `ready=False` leaves them waiting for its `go`."""
    with ExitStack() as stack:

        def start(*, ready: bool = True, fails_on: int | None = None, **options: Any) -> Running:
            people = Someone(fails_on=fails_on)
            if ready:
                people.go.set()
            return stack.enter_context(running(people, **options))

        yield start


def png(number: int = 0, width: int = 8, height: int = 6) -> bytes:
    """A small image whose first pixel says its number."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[0, 0] = list(number.to_bytes(3, "big"))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
