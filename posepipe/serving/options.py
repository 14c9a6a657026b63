"""How a service behaves: its limits, and how batches form."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from posepipe.errors import OptionError
from posepipe.networks.resources import default_workers


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """The limits of a service.

    Attributes:
        max_bytes: a longer image file is refused (413).
        max_pixels: an image with more pixels is refused by its header (413).
        queue: so many requests at a time; more are refused (429).
        queue_bytes: so many bytes of files and pixels at a time; more are refused (429).
        together: images that go through the networks together at most.
        max_delay: seconds that an image waits for others at most while the networks are idle.
        timeout: seconds that an image's upload may take (else 408), and as many that its answer
            may (else 503).
        workers: threads that decode images, and as many that prepare them.

    Raises:
        OptionError: a value out of range.
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    queue: int = 512
    queue_bytes: int = 2_000_000_000
    together: int = 16
    max_delay: float = 0.01
    timeout: float = 30.0
    workers: int = field(default_factory=default_workers)

    def __post_init__(self) -> None:
        for each in fields(self):
            value, least = getattr(self, each.name), 0 if each.name == "max_delay" else 1e-3
            if not least <= value < float("inf"):
                raise OptionError(f"{each.name} must be above 0, got {value}")
