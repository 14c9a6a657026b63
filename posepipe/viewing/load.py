"""Files into what the page shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import DocumentError, OptionError
from posepipe.io.coco import read_annotations
from posepipe.io.documents import read_boxes, read_keypoints
from posepipe.io.findings import Finding
from posepipe.io.identity import as_annotated
from posepipe.io.images import ImageFile
from posepipe.io.result_list import ResultFile, read_results
from posepipe.viewing.content import Content


def load_content(
    results: Path,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    before: Path | None = None,
) -> Content:
    """The poses of a kps.json, or the boxes of a boxes.json, as a page shows them.

    With annotations, all of their images are shown, even those in which nobody was found; results
    are matched with them as by `posepipe eval` (`posepipe.io.identity`).

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
        both = tuple(dict.fromkeys((*now.findings, *then.findings)))
        return replace(now, before=then.poses, findings=both)
    given = read_results(results)
    own = (entry.skeleton for entry in given.entries if entry.skeleton is not None)
    skeleton = next(own, COCO_PERSON)
    if annotations is None:
        _, found, findings = _people(given, images)
        if not found:
            raise DocumentError(f"{results} names no image: there is nothing to look at")
        shown, poses = zip(*found, strict=True)
        return Content(
            results.name,
            shown,
            poses,
            skeleton=skeleton,
            of_boxes=given.holds_boxes,
            findings=findings,
        )
    labels = read_annotations(annotations, skeleton=skeleton)
    known = as_annotated(given, labels)
    if given.entries and not known.entries:
        raise DocumentError(
            f"{annotations} has none of the images of {results}: the two belong to different "
            "image sets"
        )
    root, found, findings = _people(known, images)
    by_id = {image.id: (image, poses) for image, poses in found}
    shown, poses = zip(
        *(
            by_id.get(entry.id)
            or (
                ImageFile(entry.id, root / entry.file_name, entry.file_name),
                Poses.none(entry.id, skeleton),
            )
            for entry in labels.images
        ),
        strict=True,
    )
    of_images = [labels.labels_by_image[image.id] for image in shown]
    return Content(
        results.name,
        shown,
        poses,
        of_images,
        skeleton,
        of_boxes=given.holds_boxes,
        findings=(*labels.findings, *findings),
    )


def _people(
    results: ResultFile, folder: Path | None
) -> tuple[Path, list[tuple[ImageFile, Poses]], tuple[Finding, ...]]:
    """The images' folder, every image with the people in it, and what is odd about the file."""
    if results.holds_boxes:
        boxes = read_boxes(results, images=folder)
        people = [_without_keypoints(detections) for detections in boxes.detections]
        return boxes.images.root, list(zip(boxes.images, people, strict=True)), boxes.findings
    document = read_keypoints(results, images=folder)
    found = list(zip(document.images, document.poses, strict=True))
    return document.images.root, found, document.findings


def _without_keypoints(detections: Detections) -> Poses:
    """Boxes as people of whom no keypoint is known: each has confidence 0 at the box's centre."""
    boxes = detections.boxes_xyxy.astype(np.float64)
    keypoints = np.zeros((len(boxes), len(COCO_PERSON), 3))
    keypoints[..., :2] = ((boxes[:, :2] + boxes[:, 2:]) / 2)[:, None]
    scores = detections.scores.astype(np.float64)
    return Poses(detections.image_id, keypoints, scores, boxes, scores)
