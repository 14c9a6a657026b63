"""boxes.json and kps.json: written whole or not at all, and read back (`posepipe.io.reading`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from posepipe.io.categories import PERSON_ID
from posepipe.io.jsonfiles import lines_of_array, write_whole
from posepipe.io.reading import coco_file_name, labelled_document, read_boxes, read_keypoints
from posepipe.io.records import (
    BoxesDocument,
    ImageRecord,
    KeypointsDocument,
    MadeBy,
    ModelUsed,
    as_written,
    box_records,
    made_by,
    pose_records,
    rounded_seconds,
)
from posepipe.io.result_list import Skipped

__all__ = [
    "BoxesDocument",
    "KeypointsDocument",
    "MadeBy",
    "ModelUsed",
    "Skipped",
    "as_written",
    "coco_file_name",
    "labelled_document",
    "made_by",
    "read_boxes",
    "read_keypoints",
    "write_boxes",
    "write_keypoints",
]


def write_boxes(path: str | Path, document: BoxesDocument) -> None:
    """Write boxes.json, whole or not at all.

    Raises:
        DocumentError: the file cannot be written; an earlier one is untouched.
        ValueError: the size of a picture is unknown.
    """
    path = Path(path)
    unknown = [image.file_name for image in document.images if image.id not in document.sizes_wh]
    if unknown:
        raise ValueError(f"boxes.json needs the size of every picture; unknown: {unknown[0]}")
    write_whole(path, _boxes_json(document, path))


def write_keypoints(path: str | Path, document: KeypointsDocument) -> None:
    """Write kps.json, a COCO keypoint result list, whole or not at all.

    There is no ``bbox`` in it, since pycocotools would take a pose's area from it; boxes are under
    ``box_xyxy``. Pictures with nobody in them leave no trace.

    Raises:
        DocumentError: the file cannot be written; an earlier one is untouched.
    """
    path = Path(path)
    root = _stored_root(document.images.root, path)
    records = (
        record
        for image, poses in zip(document.images, document.poses, strict=True)
        for record in pose_records(poses, image, root)
    )
    write_whole(path, _ended(lines_of_array(records)))


def _stored_root(root: Path, document: Path) -> str:
    """The image root as a document stores it.

    Relative to the document's folder where one of the two lies inside the other, so that they can
    be moved together; absolute otherwise.
    """
    root, folder = root.resolve(), document.resolve().parent
    if root.is_relative_to(folder):
        return root.relative_to(folder).as_posix()
    if folder.is_relative_to(root) and root.parent != root:
        return "/".join(".." for _ in folder.relative_to(root).parts)
    return root.as_posix()


def _boxes_json(document: BoxesDocument, path: Path) -> Iterator[bytes]:
    name = document.category
    category = {"id": PERSON_ID, "name": name, "supercategory": name}
    entries = (
        ImageRecord(
            image.id,
            image.file_name,
            *document.sizes_wh[image.id],
            frame=msgspec.UNSET if image.frame is None else image.frame,
            seconds=rounded_seconds(image.seconds),
        )
        for image in document.images
    )
    origin = document.made_by or made_by("")
    yield b'{"info": ' + msgspec.json.encode(origin, order="deterministic")
    yield b',\n"image_root": ' + msgspec.json.encode(_stored_root(document.images.root, path))
    yield b',\n"images": '
    yield from lines_of_array(entries)
    yield b',\n"annotations": '
    yield from lines_of_array(box_records(document.detections))
    yield b',\n"categories": '
    yield from lines_of_array([category])
    yield b',\n"skipped": '
    yield from lines_of_array(document.skipped)
    yield b"}\n"


def _ended(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield b"\n"
