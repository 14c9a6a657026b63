"""The named parts of COCO: where their annotations and images lie under a data root."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from posepipe.errors import DocumentError, ImageError, OptionError

DATA_VARIABLE = "POSEPIPE_DATA"
DEFAULT_DATA = Path("datasets/coco")

# "minival", the paper's name for the 5,000 images held out of trainval35k, has been COCO's
# official val2017 since 2017: the same images and the same annotations.
_FOLDERS = {"minival": "val2017", "train2017": "train2017", "val2017": "val2017"}
SPLIT_NAMES = tuple(sorted(_FOLDERS))


@dataclass(frozen=True)
class Split:
    """A named part of COCO.

    Attributes:
        name: as it was asked for.
        annotations: the file with keypoints of people.
        images: the folder of the images.
    """

    name: str
    annotations: Path
    images: Path


def find_split(name: str, data: str | Path | None = None, *, images_needed: bool = True) -> Split:
    """A named part of COCO under a data root with COCO's own layout.

    Args:
        name: one of `SPLIT_NAMES`.
        data: the data root, with `annotations/` and a folder of images; without it the
            environment variable POSEPIPE_DATA names it, else it is ``datasets/coco``.
        images_needed: whether the folder of images must exist; scoring needs none.

    Raises:
        OptionError: an unknown name.
        DocumentError: the annotation file is missing.
        ImageError: the folder of images is missing.
    """
    if name not in _FOLDERS:
        raise OptionError(f"no split {name!r}; there are: {', '.join(SPLIT_NAMES)}")
    root = data_root(data)
    folder = _FOLDERS[name]
    split = Split(name, root / "annotations" / f"person_keypoints_{folder}.json", root / folder)
    remedy = f"set the data root with --data DIR or ${DATA_VARIABLE}"
    if not split.annotations.is_file():
        raise DocumentError(f"split {name!r} needs {split.annotations}, no such file: {remedy}")
    if images_needed and not split.images.is_dir():
        raise ImageError(f"split {name!r} needs {split.images}, no such folder: {remedy}")
    return split


def data_root(data: str | Path | None = None) -> Path:
    """The data root: what is given, else $POSEPIPE_DATA, else ``datasets/coco``."""
    return Path(data or os.environ.get(DATA_VARIABLE) or DEFAULT_DATA).expanduser()
