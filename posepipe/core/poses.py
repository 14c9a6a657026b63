"""The poses of the people in one image: estimated or labelled."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from posepipe.core.shapes import check_same_length, checked
from posepipe.core.skeleton import COCO_PERSON, Skeleton


@dataclass(frozen=True, eq=False)
class Poses:
    """The estimated poses of the N people in one image; N may be 0.

    Attributes:
        image_id: the image.
        keypoints: (N, K, 3) float64: x, y in pixels of the image (integers are pixel centres;
            points may lie outside) and the confidence in [0, 1].
        scores: (N,) float64 pose scores (`posepipe.scoring.rescore`).
        boxes_xyxy: (N, 4) float64 pixels, the boxes in which the poses were estimated.
        box_scores: (N,) float64 the detector's scores of these boxes.
        skeleton: the names and relations of the K keypoints.
        track_ids: (N,) int64 the people's numbers in a video (`posepipe.tracking`), -1 for people
            who are not tracked; None without tracking.

    Raises:
        ValueError: a wrong shape, lengths that differ, or a value that is not finite.
    """

    image_id: int
    keypoints: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    boxes_xyxy: npt.NDArray[np.float64]
    box_scores: npt.NDArray[np.float64]
    skeleton: Skeleton = COCO_PERSON
    track_ids: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        fields = {
            "keypoints": checked(
                "keypoints", self.keypoints, ("N", len(self.skeleton), 3), np.float64
            ),
            "scores": checked("scores", self.scores, ("N",), np.float64),
            "boxes_xyxy": checked("boxes_xyxy", self.boxes_xyxy, ("N", 4), np.float64),
            "box_scores": checked("box_scores", self.box_scores, ("N",), np.float64),
        }
        if self.track_ids is not None:
            fields["track_ids"] = checked("track_ids", self.track_ids, ("N",), np.int64)
        check_same_length(**fields)
        for name, array in fields.items():
            object.__setattr__(self, name, array)

    @classmethod
    def none(cls, image_id: int, skeleton: Skeleton = COCO_PERSON) -> Poses:
        """No people in this image."""
        numbers = np.zeros(0)
        points = np.zeros((0, len(skeleton), 3))
        return cls(image_id, points, numbers, np.zeros((0, 4)), numbers, skeleton)

    def __len__(self) -> int:
        return len(self.scores)

    def of(self, people: npt.NDArray[np.bool_] | npt.NDArray[np.intp] | slice) -> Poses:
        """Some of the people, by a mask, indices in any order, or a slice."""
        return replace(
            self,
            keypoints=self.keypoints[people],
            scores=self.scores[people],
            boxes_xyxy=self.boxes_xyxy[people],
            box_scores=self.box_scores[people],
            track_ids=None if self.track_ids is None else self.track_ids[people],
        )

    def to_coco(self, *, category_id: int = 1) -> list[dict[str, Any]]:
        """The poses as COCO keypoint results, as plain values for `json.dump`; [] without people.

        The entries are those of kps.json, unrounded and without the file name; tracked people have
        a ``track_id``. The box is ``box_xyxy``; there is no ``bbox``, because pycocotools would
        take the pose's area from it.

        Args:
            category_id: the id of person in the annotations to compare with; COCO's is 1.
        """
        return [
            {
                "image_id": self.image_id,
                "category_id": category_id,
                "keypoints": self.keypoints[person].ravel().tolist(),
                "score": float(self.scores[person]),
                "box_xyxy": self.boxes_xyxy[person].tolist(),
                "box_score": float(self.box_scores[person]),
                **({} if self.skeleton == COCO_PERSON else {"skeleton": asdict(self.skeleton)}),
                **({} if self.track_ids is None else {"track_id": int(self.track_ids[person])}),
            }
            for person in range(len(self))
        ]


@dataclass(frozen=True, eq=False)
class PoseLabels:
    """The labelled people of one image: ground truth.

    Attributes:
        image_id: which image.
        keypoints_xy: (N, K, 2) float64 pixels; (0, 0) where not labelled.
        visibility: (N, K) int: 0 not labelled, 1 labelled but occluded, 2 visible.
        boxes_xyxy: (N, 4) float64 pixels.
        areas: (N,) float64 square pixels, of the person's outline where it is known (OKS uses it).
        is_crowd: (N,) bool, a region with people that nobody counted.
        annotation_ids: (N,) int64.

    Raises:
        ValueError: a wrong shape, lengths that differ, or a value that is not finite.
    """

    image_id: int
    keypoints_xy: npt.NDArray[np.float64]
    visibility: npt.NDArray[np.int64]
    boxes_xyxy: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]
    is_crowd: npt.NDArray[np.bool_]
    annotation_ids: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        fields = {
            "keypoints_xy": checked("keypoints_xy", self.keypoints_xy, ("N", "K", 2), np.float64),
            "visibility": checked("visibility", self.visibility, ("N", "K"), np.int64),
            "boxes_xyxy": checked("boxes_xyxy", self.boxes_xyxy, ("N", 4), np.float64),
            "areas": checked("areas", self.areas, ("N",), np.float64),
            "is_crowd": checked("is_crowd", self.is_crowd, ("N",), np.bool_),
            "annotation_ids": checked("annotation_ids", self.annotation_ids, ("N",), np.int64),
        }
        check_same_length(**fields)
        for name, array in fields.items():
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.areas)
