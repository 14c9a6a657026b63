"""boxes.json and kps.json as nouns: written, and read back; other programs' lists are read, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np

from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON, PERSON, Skeleton
from posepipe.errors import DocumentError, ImageError, OptionError
from posepipe.io.checking import check_boxes
from posepipe.io.coco import (
    PERSON_ID,
    ImageEntry,
    image_files,
    read_annotations,
)
from posepipe.io.images import ImageFile, ImageSet, coco_id
from posepipe.io.jsonfiles import decode, lines_of_array, read_bytes, write_whole
from posepipe.io.records import (
    TOOL,
    BoxesDocument,
    BoxesFile,
    BoxRecord,
    KeypointsDocument,
    MadeBy,
    ModelUsed,
    PoseRecord,
    Skipped,
    as_written,
    box_records,
    labelled_document,
    made_by,
    pose_records,
)

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

_BOXES = "a boxes.json or a COCO detection list"
_POSES = "a kps.json or another COCO keypoint result list"


def write_boxes(path: str | Path, document: BoxesDocument) -> None:
    """Write boxes.json, whole or not at all.

    Raises:
        DocumentError: the file cannot be written; an earlier one is untouched.
        ValueError: the size of a picture is not known.
    """
    path = Path(path)
    unknown = [image.file_name for image in document.images if image.id not in document.sizes_wh]
    if unknown:
        raise ValueError(f"boxes.json needs the size of every picture; not known: {unknown[0]}")
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
        for record in pose_records(poses, image.file_name, root)
    )
    write_whole(path, _ended(lines_of_array(records)))


def read_boxes(
    path: str | Path,
    *,
    images: str | Path | None = None,
    annotations: str | Path | None = None,
) -> BoxesDocument:
    """The people of a boxes.json, or of a plain COCO detection list; the content tells which.

    Boxes that are not sound are left out and listed in `problems` (see `check_boxes`).

    Args:
        path: the JSON file.
        images: the folder of the pictures; needed for a list, and for a boxes.json whose pictures
            have moved.
        annotations: for a list: an annotation file that has the pictures' names. All of its
            pictures are taken. Without it, those in the list are, by their COCO file names.

    Raises:
        DocumentError: neither of the two; says what is wrong and where.
        ImageError: no such folder.
        OptionError: a list without `images`, or a boxes.json with `annotations`.
    """
    path = Path(path)
    data = read_bytes(path)
    if data.lstrip()[:1] == b"[":
        return _read_detection_list(data, path, images, annotations)
    if annotations is not None:
        raise OptionError(f"{path} has file names of its own: leave out --annotations")
    file = decode(data, BoxesFile, path=path, what=_BOXES, nan=True)
    if any(record.score is None for record in file.annotations):
        raise DocumentError(
            f"{path} has boxes without a score, so it is an annotation file: give labelled boxes "
            "with --ground-truth"
        )
    root = _existing_folder(images) if images else _root_of(file.image_root, path)
    file_names: dict[int, str] = {}
    for place, image in enumerate(file.images):
        if image.id in file_names:
            raise DocumentError(f"{path}: image id {image.id} is there twice (images[{place}])")
        file_names[image.id] = image.file_name
    sizes_wh = {image.id: image.size_wh for image in file.images}
    checked = check_boxes(file.annotations, file_names, sizes_wh)
    return BoxesDocument(
        images=_image_set(root, file_names),
        detections=checked.detections,
        sizes_wh=sizes_wh,
        skipped=file.skipped,
        made_by=_origin(file, path),
        problems=checked.problems,
        other_categories=checked.other_categories,
    )


def read_keypoints(path: str | Path, *, images: str | Path | None = None) -> KeypointsDocument:
    """The poses of a kps.json, or of another program's COCO keypoint results.

    Where another program's results have no file names, they are taken to be COCO's; no boxes: the
    extent of the keypoints; no box scores: the poses' own; no skeleton: COCO's person.

    Args:
        path: the JSON file.
        images: the folder of the pictures, where the file does not say it or they have moved.

    Raises:
        DocumentError: not such a list, keypoints of another number than the skeleton's, poses of
            several skeletons in a picture, a number that is not finite.
        ImageError: no such folder.
    """
    path = Path(path)
    data = read_bytes(path)
    try:
        records = decode(data, tuple[PoseRecord, ...], path=path, what=_POSES, nan=True)
    except DocumentError as error:
        raise _if_boxes(data, path) or error from None
    folder = _existing_folder(images) if images else None
    by_image: dict[int, list[PoseRecord]] = {}
    others = 0
    for place, record in enumerate(records):
        if record.category_id != PERSON_ID:
            others += 1
            continue
        skeleton = _skeleton(record)
        if len(record.keypoints) != 3 * len(skeleton):
            raise DocumentError(
                f"{path}: [{place}].keypoints has {len(record.keypoints)} numbers, a "
                f"{skeleton.name} has {3 * len(skeleton)}: x, y, confidence of {len(skeleton)} "
                "keypoints"
            )
        numbers = (*record.keypoints, *(record.box_xyxy or ()), record.score, record.box_score or 0)
        if not np.isfinite(numbers).all():
            raise DocumentError(f"{path}: [{place}] has a number that is not finite")
        of_image = by_image.setdefault(record.image_id, [])
        if of_image and _skeleton(of_image[0]) != skeleton:
            raise DocumentError(
                f"{path}: image {record.image_id} has poses of several skeletons "
                f"({_skeleton(of_image[0]).name}, {skeleton.name}): keep them in separate files"
            )
        of_image.append(record)
    files = []
    for image_id, people in by_image.items():
        name = people[0].file_name or coco_file_name(image_id)
        root = folder or _root_of(people[0].image_root, path)
        files.append(ImageFile(image_id, root / name, name))
    first_root = next((people[0].image_root for people in by_image.values()), None)
    return KeypointsDocument(
        images=ImageSet(folder or _root_of(first_root, path), tuple(files)),
        poses=tuple(_poses(image_id, people) for image_id, people in by_image.items()),
        other_categories=others,
    )


def coco_file_name(image_id: int) -> str:
    """The name of a picture of COCO 2017.

    >>> coco_file_name(1490)
    '000000001490.jpg'
    """
    return f"{image_id:012d}.jpg"


def _read_detection_list(
    data: bytes, path: Path, images: str | Path | None, annotations: str | Path | None
) -> BoxesDocument:
    try:
        records = decode(data, tuple[BoxRecord, ...], path=path, what=_BOXES, nan=True)
    except DocumentError as error:
        raise _if_keypoints(data, path) or error from None
    if any(record.keypoints is not None for record in records):
        raise _taken_for_boxes(path)
    for place, record in enumerate(records):
        if record.score is None:
            raise DocumentError(f"{path} is not {_BOXES}: [{place}] has no score")
    if images is None:
        raise OptionError(
            f"{path} is a plain detection list: name the folder of its pictures with --images DIR"
        )
    if annotations is not None:
        known = read_annotations(annotations)
        image_set = image_files(known, images)
        sizes_wh = {image.id: image.size_wh for image in known.images}
    else:
        image_set = _listed_images({record.image_id for record in records}, images)
        sizes_wh = _readable_sizes(image_set)
    file_names = {image.id: image.file_name for image in image_set}
    checked = check_boxes(records, file_names, sizes_wh)
    return BoxesDocument(
        images=image_set,
        detections=checked.detections,
        sizes_wh=sizes_wh,
        problems=checked.problems,
        other_categories=checked.other_categories,
    )


def _listed_images(ids: Iterable[int], folder: str | Path) -> ImageSet:
    root = _existing_folder(folder)
    carried = {coco_id(path.name): path.name for path in sorted(root.iterdir())}
    return _image_set(root, {i: carried.get(i, coco_file_name(i)) for i in sorted(ids)})


def _readable_sizes(images: ImageSet) -> dict[int, tuple[int, int]]:
    """The sizes that the pictures' headers tell; a bad picture is found out when it is read."""
    sizes_wh = {}
    for image in images:
        with suppress(ImageError):
            sizes_wh[image.id] = image.size_wh
    return sizes_wh


def _image_set(root: Path, file_names: Mapping[int, str]) -> ImageSet:
    return ImageSet(root, tuple(ImageFile(i, root / name, name) for i, name in file_names.items()))


def _existing_folder(folder: str | Path) -> Path:
    root = Path(folder)
    if not root.is_dir():
        raise ImageError(f"{root}: no such folder of pictures: check the path")
    return root


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


def _root_of(stored: str | None, document: Path) -> Path:
    return document.parent / (stored or "")


def _origin(file: BoxesFile, path: Path) -> MadeBy | None:
    if file.info.get("tool") != TOOL:
        return None
    try:
        return msgspec.convert(file.info, MadeBy)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`$", "`info")
        raise DocumentError(f"{path} is not {_BOXES}: {reason}") from None


def _poses(image_id: int, people: Sequence[PoseRecord]) -> Poses:
    keypoints = np.array([person.keypoints for person in people]).reshape(len(people), -1, 3)
    boxes = [
        person.box_xyxy or (*points.min(axis=0), *points.max(axis=0))
        for person, points in zip(people, keypoints[..., :2], strict=True)
    ]
    box_scores = [p.score if p.box_score is None else p.box_score for p in people]
    return Poses(
        image_id,
        keypoints,
        np.array([person.score for person in people]),
        np.array(boxes),
        np.array(box_scores),
        _skeleton(people[0]),
    )


def _skeleton(record: PoseRecord) -> Skeleton:
    return COCO_PERSON if isinstance(record.skeleton, msgspec.UnsetType) else record.skeleton


def _boxes_json(document: BoxesDocument, path: Path) -> Iterator[bytes]:
    category = {"id": PERSON_ID, "name": PERSON, "supercategory": PERSON}
    entries = (
        ImageEntry(image.id, image.file_name, *document.sizes_wh[image.id])
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


class _Keys(msgspec.Struct):
    keypoints: msgspec.Raw = msgspec.Raw(b"")
    bbox: msgspec.Raw = msgspec.Raw(b"")


def _if_keypoints(data: bytes, path: Path) -> DocumentError | None:
    """The error to give where a file that should hold boxes holds keypoints."""
    keys = _keys(data)
    return _taken_for_boxes(path) if keys and bytes(keys.keypoints) else None


def _if_boxes(data: bytes, path: Path) -> DocumentError | None:
    """The error to give where a file that should hold keypoints holds boxes."""
    keys = _keys(data)
    is_object = data.lstrip()[:1] == b"{"
    if is_object or (keys and bytes(keys.bbox) and not bytes(keys.keypoints)):
        return DocumentError(
            f"{path} is {'no list' if is_object else 'a list of boxes'}: keypoint results are a "
            "list; a boxes.json becomes one with `posepipe pose`"
        )
    return None


def _taken_for_boxes(path: Path) -> DocumentError:
    return DocumentError(
        f"{path} holds keypoints, not boxes: it is a result already; score it with `posepipe eval`"
    )


def _keys(data: bytes) -> _Keys | None:
    """The keys of a list's first entry, None if there is no such thing."""
    try:
        return next(iter(msgspec.json.decode(data, type=list[_Keys])), None)
    except msgspec.DecodeError:
        return None
