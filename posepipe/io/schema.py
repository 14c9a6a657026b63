"""What COCO annotation files hold, entry by entry, as COCO's own files have it."""

from __future__ import annotations

from typing import Annotated

import msgspec

from posepipe.io.lenient import ID_RANGE

WHAT = "a COCO annotation file"

Id = Annotated[int, msgspec.Meta(ge=ID_RANGE[0], le=ID_RANGE[-1])]
Box = tuple[float, float, float, float]


class ImageEntry(msgspec.Struct, frozen=True, gc=False):
    """An image as COCO-shaped files list it.

    Attributes:
        id: what annotations refer to.
        file_name: relative to the image root; "" where the file has none.
        width: pixels; 0 or less where the file does not say.
        height: pixels; likewise.
        frame: of a video's frame, its number, from 0; None for an image.
        seconds: of a video's frame, its time; likewise.
    """

    id: Id
    file_name: str = ""
    width: int = 0
    height: int = 0
    frame: int | None = None
    seconds: float | None = None

    @property
    def size_wh(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.width, self.height

    @property
    def has_size(self) -> bool:
        """Whether the file says the size."""
        return self.width > 0 and self.height > 0


class CategoryEntry(msgspec.Struct, frozen=True):
    """A category of things, with the skeleton of those that have keypoints.

    Attributes:
        id: what annotations refer to.
        name: such as "person".
        keypoints: names, in the order of the annotations' keypoints; () where there are none.
        skeleton: pairs of keypoints that are connected, counted from 1.
    """

    id: Id
    name: str = ""
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()


class AnnotationEntry(msgspec.Struct, frozen=True, gc=False):
    """A labelled thing; fields beyond COCO's are described in docs/file-formats.md."""

    id: Id
    image_id: Id
    category_id: Id
    bbox: Box  # left, top, width, height in pixels
    area: float | None = None
    iscrowd: int = 0
    num_keypoints: int | None = None
    # Left as text until its turn: COCO's train2017 has 13 million numbers here.
    keypoints: msgspec.Raw = msgspec.Raw(b"null")
    pseudo_keypoints: tuple[int, ...] = ()
    box_source: str = ""
    box_score: float | None = None
    area_is_estimate: bool = False


class AnnotationFile(msgspec.Struct, frozen=True):
    """The parts of an annotation file that are read; test sets come without annotations."""

    images: tuple[ImageEntry, ...]
    annotations: tuple[AnnotationEntry, ...] = ()  # test sets come without
    categories: tuple[CategoryEntry, ...] = ()
