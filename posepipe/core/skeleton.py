"""What a pose consists of: keypoint names, mirror pairs, limbs and OKS tolerances."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of one kind of body.

    Attributes:
        name: how recipes refer to it.
        keypoints: K names, in the order of every `(K, 3)` array.
        mirror_pairs: index pairs (left, right) that exchange their places in a mirror image.
        limbs: index pairs that a drawing connects.
        sigmas: K per-keypoint standard deviations of OKS (COCO's keypoint evaluation page);
            a keypoint's tolerance is 2·sigma times the square root of the person's area.
    """

    name: str
    keypoints: tuple[str, ...]
    mirror_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """For each keypoint the index of the one that takes its place in a mirror image.

        >>> COCO_PERSON.mirrored[:5]          # nose, left eye, right eye, left ear, right ear
        (0, 2, 1, 4, 3)
        """
        order = list(range(len(self.keypoints)))
        for left, right in self.mirror_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def side(self, keypoint: int) -> str:
        """The person's own side that a keypoint is on: "left", "right" or "middle"."""
        name = self.keypoints[keypoint]
        return next((side for side in ("left", "right") if name.startswith(side)), "middle")


COCO_PERSON = Skeleton(
    name="coco_person",
    keypoints=(
        "nose",
        "left_eye",
        "right_eye",
        "left_ear",
        "right_ear",
        "left_shoulder",
        "right_shoulder",
        "left_elbow",
        "right_elbow",
        "left_wrist",
        "right_wrist",
        "left_hip",
        "right_hip",
        "left_knee",
        "right_knee",
        "left_ankle",
        "right_ankle",
    ),
    mirror_pairs=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
    limbs=(
        (0, 1),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 5),
        (4, 6),
        (5, 6),
        (5, 7),
        (7, 9),
        (6, 8),
        (8, 10),
        (5, 11),
        (6, 12),
        (11, 12),
        (11, 13),
        (13, 15),
        (12, 14),
        (14, 16),
    ),
    # Written as tenths because COCO's own program divides by ten too: 0.26 / 10 and 0.026 differ in
    # the last bit, and scores are compared with COCO's to the last digit.
    sigmas=tuple(
        tenths / 10
        for tenths in (
            *(0.26, 0.25, 0.25, 0.35, 0.35),
            *(0.79, 0.79, 0.72, 0.72, 0.62, 0.62),
            *(1.07, 1.07, 0.87, 0.87, 0.89, 0.89),
        )
    ),
)
