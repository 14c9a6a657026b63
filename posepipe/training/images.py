"""Images that networks learn from: read when they are needed, kept while there is room."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from posepipe.io.images import ImageFile
from posepipe.networks.resources import free_memory

CacheKind = Literal["memory", "none"]
Pixels = npt.NDArray[np.uint8]

logger = logging.getLogger(__name__)


class ImageCache:
    """Decoded images in memory, up to a limit; beyond it images are decoded each time.

    What came first stays: in shuffled epochs every image is as likely to be needed next, so
    throwing some out for others would gain nothing.

    Attributes:
        limit_bytes: most bytes of pixels that are kept.
        used_bytes: bytes of pixels kept so far.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self._kept: dict[ImageFile, Pixels] = {}
        self._lock = threading.Lock()
        self._full = False

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, file: ImageFile) -> Pixels:
        """(H, W, 3) uint8 RGB, read-only if kept; for any number of threads.

        Raises:
            ImageError: as `ImageFile.read`.
        """
        pixels = self._kept.get(file, file.pixels)
        if pixels is not None:
            return pixels
        pixels = file.read()  # two threads may both do it; better than one waiting for the other
        with self._lock:
            if file in self._kept:
                return self._kept[file]
            if self.used_bytes + pixels.nbytes <= self.limit_bytes:
                pixels.setflags(write=False)
                self._kept[file] = pixels
                self.used_bytes += pixels.nbytes
            elif not self._full:
                self._full = True
                logger.info(
                    "%d images fill the %.1f GiB of memory meant for them; the others are "
                    "decoded each time",
                    len(self._kept),
                    self.limit_bytes / 2**30,
                )
        return pixels


@dataclass(frozen=True, eq=False, slots=True)
class TrainingImage:
    """An image that is read when it is needed.

    Attributes:
        file: where it lies.
        cache: what keeps its pixels; None decodes it each time.
    """

    file: ImageFile
    cache: ImageCache | None = None

    def read(self) -> Pixels:
        """(H, W, 3) uint8 RGB; not to be written to.

        Raises:
            ImageError: missing or unreadable.
        """
        return self.file.read() if self.cache is None else self.cache.read(self.file)


def image_cache(kind: CacheKind, *, processes: int | None = None) -> ImageCache | None:
    """The cache that a recipe asks for (``training.cache``).

    Args:
        kind: "memory" keeps decoded images in half of the memory that is free now; "none" keeps
            nothing.
        processes: how many on this machine share that half; None: as many as torchrun or
            accelerate started here.
    """
    if kind == "none":
        return None
    sharing = processes or int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return ImageCache(free_memory() // 2 // sharing)
