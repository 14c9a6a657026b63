"""Files into what the page shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import DocumentError, OptionError
from posepipe.io.coco import Annotations, read_annotations
from posepipe.io.documents import read_boxes, read_keypoints
from posepipe.io.images import ImageFile
from posepipe.io.result_list import read_results
from posepipe.viewing.content import Content


def load_content(
    results: Path,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    before: Path | None = None,
) -> Content:
    """The poses of a kps.json, or the boxes of a boxes.json, as a page shows them.

    Images are matched by their ids or, where the annotations know none of them, by their file
    names. With annotations, all of their images are shown, even those in which nobody was found.

    Args:
        results: a kps.json, a boxes.json, or another program's COCO results.
        annotations: a COCO annotation file of the same images.
        images: the images' folder, where they have moved.
        before: other results on the same images: the page can sort by what has changed since.

    Raises:
        DocumentError: a file is missing, of another shape, or names no image of the other.
        ImageError: no such folder.
        OptionError: `before` without annotations, which decide what is better.
    """
    if before is not None:
        if annotations is None:
            raise OptionError("what has changed is judged by labels: name them with --annotations")
        now = load_content(results, annotations=annotations, images=images)
        then = load_content(before, annotations=annotations, images=images)
        return replace(now, before=then.poses)
    found: list[tuple[ImageFile, Poses]]
    given = read_results(results)
    if given.holds_boxes:
        boxes = read_boxes(given, images=images)
        root = boxes.images.root
        people = [_without_keypoints(detections) for detections in boxes.detections]
        found = list(zip(boxes.images, people, strict=True))
    else:
        keypoints = read_keypoints(given, images=images)
        root = keypoints.images.root
        found = list(zip(keypoints.images, keypoints.poses, strict=True))
    skeleton = found[0][1].skeleton if found else COCO_PERSON
    of_boxes = given.holds_boxes
    if annotations is None:
        if not found:
            raise DocumentError(f"{results} names no image: there is nothing to look at")
        poses = [poses for _, poses in found]
        pictures = [image for image, _ in found]
        return Content(results.name, pictures, poses, skeleton=skeleton, of_boxes=of_boxes)
    labels = read_annotations(annotations, skeleton=skeleton)
    poses_by_id = _by_id_of(labels, found)
    if found and not poses_by_id:
        raise DocumentError(
            f"{annotations} has none of the images of {results}: the two belong to different "
            "image sets"
        )
    files = {image.file_name: image for image, _ in found}
    shown_images, shown_poses, shown_labels = [], [], []
    for entry in labels.images:
        image = files.get(entry.file_name) or ImageFile(
            entry.id, root / entry.file_name, entry.file_name
        )
        shown_images.append(image)
        shown_poses.append(poses_by_id.get(entry.id) or Poses.none(entry.id, skeleton))
        shown_labels.append(labels.labels_by_image[entry.id])
    return Content(
        results.name, shown_images, shown_poses, shown_labels, skeleton, of_boxes=of_boxes
    )


def _by_id_of(labels: Annotations, found: list[tuple[ImageFile, Poses]]) -> dict[int, Poses]:
    """Poses by the annotations' ids: matched by their own ids, else by file name."""
    names = {entry.id: entry.file_name for entry in labels.images}
    by_id = {image.id: poses for image, poses in found if image.id in names}
    if all(names[image.id] == image.file_name for image, _ in found if image.id in by_id) and by_id:
        return by_id
    ids = {name: image_id for image_id, name in names.items()}
    by_name = {ids[image.file_name]: poses for image, poses in found if image.file_name in ids}
    return by_name or by_id


def _without_keypoints(detections: Detections) -> Poses:
    """Boxes as people of whom no keypoint is known: each has confidence 0 at the box's centre."""
    boxes = detections.boxes_xyxy.astype(np.float64)
    keypoints = np.zeros((len(boxes), len(COCO_PERSON), 3))
    keypoints[..., :2] = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
    scores = detections.scores.astype(np.float64)
    return Poses(detections.image_id, keypoints, scores, boxes, scores)
