"""What the page shows: every picture in short, and its people one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from posepipe.analysis.errors import Errors, KeypointError, find_errors, mean_oks
from posepipe.core.poses import PoseLabels, Poses
from posepipe.core.skeleton import COCO_PERSON, Skeleton
from posepipe.io.images import ImageFile
from posepipe.scoring.coco import size_of
from posepipe.scoring.comparison import PoseComparison

KINDS = tuple(kind.name.lower() for kind in KeypointError if kind != KeypointError.UNLABELLED)
Shown = dict[str, Any]  # what becomes JSON


@dataclass(frozen=True, eq=False)
class _Judged:
    """Poses beside their labels: what is wrong, and the mean OKS by picture number."""

    comparison: PoseComparison
    errors: Errors
    mean_oks: dict[int, float]


@dataclass(frozen=True, eq=False)
class Content:
    """Pictures with the poses found in them, and with their labels where there are any.

    Attributes:
        title: of the page.
        images: the pictures.
        poses: one per picture.
        labels: one per picture, or none at all.
        skeleton: of poses and labels.
        least_score: people with a lower score are not shown until they are asked for.
        least_confidence: keypoints with a lower one are not drawn.
        first_oks: one per picture: mean OKS of another run, for "what got worse first"; or none.

    Raises:
        ValueError: lengths that differ.
    """

    title: str
    images: Sequence[ImageFile]
    poses: Sequence[Poses]
    labels: Sequence[PoseLabels] = ()
    skeleton: Skeleton = COCO_PERSON
    least_score: float = 0.2
    least_confidence: float = 0.2
    first_oks: Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        if len(self.poses) != len(self.images) or len(self.labels) not in (0, len(self.images)):
            raise ValueError("poses and labels go with the pictures, one each")

    def index(self, sizes_wh: Sequence[tuple[int, int]]) -> Shown:
        """Everything that the page needs before a picture is opened."""
        judged = self._judged()
        return {
            "title": self.title,
            "skeleton": {
                "keypoints": list(self.skeleton.keypoints),
                "limbs": [list(limb) for limb in self.skeleton.limbs],
                "sides": [self.skeleton.side(k) for k in range(len(self.skeleton))],
            },
            "errors": list(KINDS),
            "has": [
                *(["labels"] if self.labels else []),
                *(["change"] if self.first_oks is not None else []),
            ],
            "leastScore": self.least_score,
            "leastConfidence": self.least_confidence,
            "pictures": [
                self._picture(number, size_wh, judged) for number, size_wh in enumerate(sizes_wh)
            ],
        }

    def people(self, number: int) -> Shown:
        """The poses and labels of one picture."""
        poses = self.poses[number]
        shown = [
            {
                "id": place,
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
        if not self.labels:
            return {"poses": shown, "labels": []}
        labels = self.labels[number]
        errors = find_errors(PoseComparison.of_pictures([poses], [labels], skeleton=self.skeleton))
        for pose in shown:
            pose["oks"] = None
        for place, oks, kinds in zip(errors.found, errors.oks, errors.kinds, strict=True):
            shown[place]["oks"] = round(float(oks), 4)
            shown[place]["errors"] = _by_kind(kinds[None])
        points = np.concatenate([labels.keypoints_xy, labels.visibility[..., None]], axis=2)
        return {
            "poses": shown,
            "labels": [
                {
                    "id": int(labels.annotation_ids[place]),
                    "box": labels.boxes_xyxy[place].round(2).tolist(),
                    "keypoints": points[place].reshape(-1).tolist(),
                }
                for place in range(len(labels))
            ],
        }

    def oks_by_picture(self) -> dict[int, float]:
        """Mean OKS of the people who count, by the number of their picture."""
        judged = self._judged()
        return {} if judged is None else judged.mean_oks

    def _judged(self) -> _Judged | None:
        if not self.labels:
            return None
        comparison = PoseComparison.of_pictures(self.poses, self.labels, skeleton=self.skeleton)
        errors = find_errors(comparison)
        means = {n: round(oks, 4) for n, oks in mean_oks(comparison, errors).items()}
        return _Judged(comparison, errors, means)

    def _picture(
        self,
        number: int,
        size_wh: tuple[int, int],
        judged: _Judged | None,
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
        comparison, errors = judged.comparison, judged.errors
        people = np.flatnonzero(
            (comparison.labelled.pictures == number) & ~comparison.labelled.ignored
        )
        mine = np.isin(errors.people, people)
        shown["oks"] = judged.mean_oks.get(number)
        if self.first_oks is not None and shown["oks"] is not None:
            shown["change"] = round(shown["oks"] - self.first_oks.get(number, 0.0), 4)
        shown["sizes"] = sorted(
            {size_of(float(area)) for area in comparison.labelled.areas[people]}
        )
        shown["errors"] = _by_kind(errors.kinds[mine])
        return shown


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
