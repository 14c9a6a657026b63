"""Pictures: what a unit of work is, how it is found, and how its pixels are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class ImageFile:
    """One picture: the unit of work of every stage.

    Attributes:
        id: the picture's id in boxes.json, kps.json and COCO annotations.
        path: where it lies; relative or absolute; a made-up name for a picture in memory.
        file_name: how documents name it: relative to the image root, with forward slashes.
        pixels: (H, W, 3) uint8 RGB for a picture in memory, None for a file.
    """

    id: int
    path: Path
    file_name: str
    pixels: npt.NDArray[np.uint8] | None = None
