"""What a service counts, as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from posepipe.serving.admission import Admission

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_IMAGES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """The numbers of one service.

    Args:
        admission: what the requests at work hold.
    """

    def __init__(self, admission: Admission) -> None:
        self._registry = CollectorRegistry()
        registry = self._registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "posepipe_requests",
            "Requests by path and status.",
            ["path", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "posepipe_request_seconds",
            "Seconds from a request's headers to its answer's end.",
            ["path"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._batches = Histogram(
            "posepipe_batch_images",
            "Images that went through the networks together.",
            buckets=_IMAGES,
            registry=registry,
        )
        self._batch_seconds = Histogram(
            "posepipe_batch_seconds",
            "Seconds of the networks, a batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self._people = Counter("posepipe_people", "People found.", registry=registry)
        gauges: dict[str, tuple[str, Callable[[], float]]] = {
            "posepipe_requests_at_work": ("Requests at work.", lambda: admission.requests),
            "posepipe_held_bytes": ("Bytes that they hold.", lambda: admission.held_bytes),
        }
        for name, (what, value) in gauges.items():
            Gauge(name, what, registry=registry).set_function(value)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count a request; status 0 is a client that went away."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, images: int, seconds: float) -> None:
        """Count a batch."""
        self._batches.observe(images)
        self._batch_seconds.observe(seconds)

    def people(self, count: int) -> None:
        """Count people."""
        self._people.inc(count)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
