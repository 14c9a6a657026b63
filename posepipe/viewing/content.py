"""What the page shows: every image in short, and its people one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from posepipe.analysis.errors import Errors, KeypointError, find_errors, mean_oks
from posepipe.core.poses import PoseLabels, Poses
from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.drawing.style import DrawStyle
from posepipe.io.findings import Finding
from posepipe.io.images import ImageFile
from posepipe.scoring.coco import size_of
from posepipe.scoring.comparison import PoseComparison
from posepipe.scoring.matching import IntArray

KINDS = tuple(kind.name.lower() for kind in KeypointError if kind != KeypointError.UNLABELLED)
SPURIOUS, MISSED = "false positive", "false negative"  # errors of whole poses
Shown = dict[str, Any]  # what becomes JSON


@dataclass(frozen=True, eq=False)
class _Judged:
    """What is wrong with the poses of all images, by the number of the image.

    Attributes:
        oks: mean OKS of the people who count, where there are any.
        sizes: of these people.
        kinds: (n, K) kinds of errors of the keypoints of those who were found.
        spurious: how many poses are about nobody.
        missed: how many people no pose is about.
    """

    oks: dict[int, float]
    sizes: list[list[str]]
    kinds: list[npt.NDArray[np.int8]]
    spurious: list[int]
    missed: list[int]

    @classmethod
    def of(cls, comparison: PoseComparison, images: int) -> _Judged:
        """The verdict on the poses of so many images."""
        errors, labelled = find_errors(comparison), comparison.labelled
        people = np.flatnonzero(~labelled.ignored)
        found = _split(labelled.images[errors.people], images)
        return cls(
            oks={n: round(oks, 4) for n, oks in mean_oks(comparison, errors).items()},
            sizes=[
                sorted({size_of(area) for area in labelled.areas[people[of_image]].tolist()})
                for of_image in _split(labelled.images[people], images)
            ],
            kinds=[errors.kinds[of_image] for of_image in found],
            spurious=_numbers(comparison.found.images[errors.spurious], images),
            missed=_numbers(labelled.images[errors.missed], images),
        )


@dataclass(frozen=True, eq=False)
class Content:
    """Images with the poses found in them, and with their labels where there are any.

    Attributes:
        title: of the page.
        images: the images.
        poses: one per image.
        labels: one per image, or none at all.
        skeleton: of poses and labels.
        min_score: people with a lower score are not shown until they are asked for.
        min_confidence: keypoints with a lower one are not drawn.
        before: another run's poses, one per image, to show what has changed since; or none.
        of_boxes: the poses are boxes alone, and are not judged by the labels' keypoints.
        findings: what is odd about the files.

    Raises:
        ValueError: lengths that differ.
    """

    title: str
    images: Sequence[ImageFile]
    poses: Sequence[Poses]
    labels: Sequence[PoseLabels] = ()
    skeleton: Skeleton = COCO_PERSON
    min_score: float = DrawStyle.min_score
    min_confidence: float = DrawStyle.min_confidence
    before: Sequence[Poses] = ()
    of_boxes: bool = False
    findings: tuple[Finding, ...] = ()

    def __post_init__(self) -> None:
        number = len(self.images)
        if len(self.poses) != number or {len(self.labels), len(self.before)} - {0, number}:
            raise ValueError("poses and labels go with the images, one each")

    def index(self, sizes_wh: Sequence[tuple[int, int]]) -> Shown:
        """Everything that the page needs before an image is opened."""
        judged = self._judged(self.poses)
        before = self._judged(self.before) if self.before else None
        return {
            "title": self.title,
            "skeleton": {
                "keypoints": list(self.skeleton.keypoints),
                "limbs": [list(limb) for limb in self.skeleton.limbs],
                "sides": [self.skeleton.side(k) for k in range(len(self.skeleton))],
            },
            "errors": list(KINDS),
            "poseErrors": [SPURIOUS, MISSED],
            "has": [
                *(["keypoints"] if not self.of_boxes else []),
                *(["labels"] if self.labels else []),
                *(["judged"] if judged is not None else []),
                *(["before"] if self.before else []),
                *(["change"] if before is not None else []),
            ],
            "minScore": self.min_score,
            "minConfidence": self.min_confidence,
            "pictures": [
                self._image(number, size_wh, judged, before)
                for number, size_wh in enumerate(sizes_wh)
            ],
        }

    def people(self, number: int) -> Shown:
        """The poses and labels of one image."""
        labels = self.labels[number] if self.labels else None
        return {
            "poses": self._poses(self.poses[number], labels),
            "before": self._poses(self.before[number], labels) if self.before else [],
            "labels": [] if labels is None else self._labels(labels, self.poses[number]),
        }

    def _poses(self, poses: Poses, labels: PoseLabels | None) -> list[Shown]:
        """Poses one by one: beside labels with the person whom each is about, and its errors."""
        shown: list[Shown] = [
            {
                "id": place + 1,
                "score": round(float(poses.scores[place]), 4),
                "boxScore": round(float(poses.box_scores[place]), 4),
                "box": poses.boxes_xyxy[place].round(2).tolist(),
                "keypoints": poses.keypoints[place].round(3).reshape(-1).tolist(),
            }
            for place in range(len(poses))
        ]
        if poses.track_ids is not None:
            for pose, track_id in zip(shown, poses.track_ids.tolist(), strict=True):
                pose["track"] = track_id
        if labels is None or self.of_boxes:
            return shown
        errors = self._errors(poses, labels)
        for place in errors.spurious.tolist():
            shown[place]["errors"] = {SPURIOUS: []}
        for place, person, oks, kinds in zip(
            errors.found.tolist(), errors.people.tolist(), errors.oks, errors.kinds, strict=True
        ):
            shown[place] |= {"oks": round(float(oks), 4), "label": person}
            shown[place]["errors"] = _by_kind(kinds[None])
        return shown

    def _labels(self, labels: PoseLabels, poses: Poses) -> list[Shown]:
        points = np.concatenate([labels.keypoints_xy, labels.visibility[..., None]], axis=2)
        missed = set() if self.of_boxes else set(self._errors(poses, labels).missed.tolist())
        return [
            {
                "id": int(labels.annotation_ids[place]),
                "box": labels.boxes_xyxy[place].round(2).tolist(),
                "keypoints": points[place].reshape(-1).tolist(),
                "missed": place in missed,
            }
            for place in range(len(labels))
        ]

    def _errors(self, poses: Poses, labels: PoseLabels) -> Errors:
        return find_errors(PoseComparison.of_images([poses], [labels], skeleton=self.skeleton))

    def _judged(self, poses: Sequence[Poses]) -> _Judged | None:
        if not self.labels or self.of_boxes:
            return None
        comparison = PoseComparison.of_images(poses, self.labels, skeleton=self.skeleton)
        return _Judged.of(comparison, len(self.images))

    def _image(
        self,
        number: int,
        size_wh: tuple[int, int],
        judged: _Judged | None,
        before: _Judged | None,
    ) -> Shown:
        image = self.images[number]
        shown: Shown = {
            "id": number,
            "name": image.file_name,
            "size": list(size_wh),
            "scores": self.poses[number].scores.round(4).tolist(),
        }
        if judged is None:
            return shown
        shown["oks"] = judged.oks.get(number)
        if before is not None and shown["oks"] is not None:
            shown["change"] = round(shown["oks"] - before.oks.get(number, 0.0), 4)
        shown["sizes"] = judged.sizes[number]
        shown["missed"] = judged.missed[number]
        shown["errors"] = {
            **_by_kind(judged.kinds[number]),
            **({SPURIOUS: []} if judged.spurious[number] else {}),
            **({MISSED: []} if judged.missed[number] else {}),
        }
        return shown


def _split(images: IntArray, number: int) -> list[IntArray]:
    """Of things in images, for each of so many images the things in it, by index."""
    order = np.argsort(images, kind="stable")
    return np.split(order, np.searchsorted(images[order], np.arange(1, number)))


def _numbers(images: IntArray, number: int) -> list[int]:
    """Of things in images, for each of so many images how many are in it."""
    counts: list[int] = np.bincount(images, minlength=number).tolist()
    return counts


def _by_kind(kinds: npt.NDArray[np.int8]) -> dict[str, list[int]]:
    """Of (n, K) kinds: for each kind that occurs, the keypoints that have it in anybody."""
    found = {
        name: np.flatnonzero((kinds == KeypointError[name.upper()]).any(axis=0)).tolist()
        for name in KINDS
    }
    return {name: keypoints for name, keypoints in found.items() if keypoints}


def script(name: str, value: Shown, *before: object) -> bytes:
    r"""JavaScript that assigns a value to something of the page's, or calls it.

    A script rather than JSON, as a page opened from a folder may load scripts but no other files.
    Names from files stay data: the value is JSON, and "<" is escaped in it.

    Args:
        name: what is assigned to, or called where there are arguments before the value.
        value: what it gets.
        before: arguments before the value.

    >>> print(script("posepipe", {"name": "</script>"}).decode(), end="")
    window.posepipe = {"name":"\u003c/script>"};
    """
    parts = [msgspec.json.encode(part).replace(b"<", b"\\u003c") for part in (*before, value)]
    if before:
        return b"window." + name.encode() + b"(" + b", ".join(parts) + b");\n"
    return b"window." + name.encode() + b" = " + parts[0] + b";\n"
