"""boxes.json and kps.json: written whole or not at all, and read back (`posepipe.io.reading`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile

import msgspec

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.io.categories import PERSON_ID
from posepipe.io.images import ImageFile
from posepipe.io.jsonfiles import cannot_write, lines_of_array, write_whole
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
    "growing_keypoints",
    "labelled_document",
    "made_by",
    "read_boxes",
    "read_keypoints",
    "write_box_stream",
    "write_boxes",
    "write_keypoints",
    "write_pose_stream",
]


def write_boxes(path: str | Path, document: BoxesDocument) -> None:
    """Write boxes.json, whole or not at all.

    Raises:
        DocumentError: the file cannot be written; an earlier one is untouched.
        ValueError: the size of an image is unknown.
    """
    images = list(
        zip(document.images, (found.size_wh for found in document.detections), strict=True)
    )
    unknown = [image.file_name for image, size_wh in images if size_wh is None]
    if unknown:
        raise ValueError(f"boxes.json needs the size of every image; unknown: {unknown[0]}")
    write_box_stream(
        path,
        root=document.images.url or document.images.root,
        images=((image, size_wh) for image, size_wh in images if size_wh is not None),
        detections=document.detections,
        skipped=document.skipped,
        made_by=document.made_by or made_by(""),
        category=document.category,
    )


def write_box_stream(
    path: str | Path,
    *,
    root: Path | str,
    images: Iterable[tuple[ImageFile, tuple[int, int]]],
    detections: Iterable[Detections],
    skipped: Iterable[Skipped],
    made_by: MadeBy,
    category: str,
) -> None:
    """Write boxes.json as `write_boxes` does, of streams: they are taken one after the other.

    Args:
        path: the file to write.
        root: the folder that file names are relative to, or its URL.
        images: the images with their widths and heights in pixels.
        detections: theirs, in the same order.
        skipped: images that could not be read.
        made_by: what determined the boxes.
        category: what was looked for.

    Raises:
        DocumentError: the file cannot be written; an earlier one is untouched.
    """
    path = Path(path)
    entries = (
        ImageRecord(
            image.id,
            image.file_name,
            *size_wh,
            frame=msgspec.UNSET if image.frame is None else image.frame,
            seconds=rounded_seconds(image.seconds),
        )
        for image, size_wh in images
    )

    def pieces() -> Iterator[bytes]:
        yield b'{"info": ' + msgspec.json.encode(made_by, order="deterministic")
        yield b',\n"image_root": ' + msgspec.json.encode(_stored_root(root, path))
        yield b',\n"images": '
        yield from lines_of_array(entries)
        yield b',\n"annotations": '
        yield from lines_of_array(box_records(detections))
        yield b',\n"categories": '
        yield from lines_of_array([{"id": PERSON_ID, "name": category, "supercategory": category}])
        yield b',\n"skipped": '
        yield from lines_of_array(_without_folder(one, root) for one in skipped)
        yield b"}\n"

    write_whole(path, pieces())


def write_keypoints(path: str | Path, document: KeypointsDocument) -> None:
    """Write kps.json, a COCO keypoint result list, whole or not at all.

    There is no ``bbox`` in it, since pycocotools would take a pose's area from it; boxes are under
    ``box_xyxy``. Images with nobody in them leave no trace.

    Raises:
        DocumentError: the file cannot be written; an earlier one is untouched.
    """
    people = zip(document.images, document.poses, strict=True)
    write_pose_stream(path, root=document.images.url or document.images.root, people=people)


def write_pose_stream(
    path: str | Path, *, root: Path | str, people: Iterable[tuple[ImageFile, Poses]]
) -> None:
    """Write kps.json as `write_keypoints` does, of a stream.

    Args:
        path: the file to write.
        root: the folder that file names are relative to, or its URL.
        people: images with the poses in them, in the order in which they are written.

    Raises:
        DocumentError: the file cannot be written; an earlier one is untouched.
    """
    path = Path(path)
    stored = _stored_root(root, path)
    records = (record for image, poses in people for record in pose_records(poses, image, stored))
    write_whole(path, _ended(lines_of_array(records)))


@contextmanager
def growing_keypoints(
    path: str | Path, *, root: Path
) -> Iterator[Callable[[ImageFile, Poses], None]]:
    """Write kps.json as `write_keypoints` does, image by image.

    Gives a function that takes an image and the poses in it. What it was given waits on the disk,
    not in memory; the file appears as the ``with`` block ends, and where that ends with an error,
    there is none.

    Args:
        path: the file to write.
        root: the folder that file names are relative to.

    Raises:
        DocumentError: the file cannot be written; an earlier one is untouched.
    """
    path = Path(path)
    stored = _stored_root(root, path)
    with TemporaryFile(dir=path.resolve().parent) as waiting:

        def write(image: ImageFile, poses: Poses) -> None:
            try:
                for record in pose_records(poses, image, stored):
                    waiting.write(
                        (b",\n" if waiting.tell() else b"[\n") + msgspec.json.encode(record)
                    )
            except OSError as error:
                raise cannot_write(path, error) from None

        yield write
        end = b"\n]\n" if waiting.tell() else b"[]\n"
        waiting.seek(0)
        write_whole(path, chain(iter(lambda: waiting.read(1 << 20), b""), [end]))


def _without_folder(skipped: Skipped, root: Path | str) -> Skipped:
    """With the image's name in place of its path, which tells of this machine alone."""
    path = str(Path(root) / skipped.file_name)
    return Skipped(skipped.file_name, skipped.why.replace(path, skipped.file_name))


def _stored_root(root: Path | str, document: Path) -> str:
    """The image root as a document stores it.

    Relative to the document's folder where one of the two lies inside the other, so that they can
    be moved together; absolute otherwise. A URL as it is.
    """
    if isinstance(root, str):
        return root
    root, folder = root.resolve(), document.resolve().parent
    if root.is_relative_to(folder):
        return root.relative_to(folder).as_posix()
    if folder.is_relative_to(root) and root.parent != root:
        return "/".join(".." for _ in folder.relative_to(root).parts)
    return root.as_posix()


def _ended(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield b"\n"
