"""What a pose consists of: keypoint names, mirror pairs, limbs and OKS tolerances."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Side = Literal["left", "right", "middle"]

DEFAULT_SIGMA = 0.067
"""The sigma of a keypoint for which none is known: the mean of COCO's 17, to three decimals."""

PERSON = "person"
"""COCO's name of the category of people."""

_SIDES: dict[str, Side] = {"left": "left", "l": "left", "right": "right", "r": "right"}
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+")


@dataclass(frozen=True)
class Skeleton:
    """The keypoints of one kind of body.

    Attributes:
        name: its name in messages.
        keypoints: K names, in the order of every `(K, 3)` array.
        mirror_pairs: index pairs (left, right) that are exchanged in a mirror image; left is the
            body's own left.
        limbs: index pairs that a drawing connects.
        sigmas: K standard deviations for OKS (COCO's keypoint evaluation page); a keypoint's
            tolerance is 2·sigma times the square root of the body's area.
        category: its category's name in annotation files.
        upper_body: indices of the keypoints of the upper half, for half-body augmentation; may be
            ().

    Raises:
        ValueError: no keypoints, a name twice, an index that does not exist, a keypoint in two
            mirror pairs, or sigmas that are not K positive numbers.
    """

    name: str
    keypoints: tuple[str, ...]
    mirror_pairs: tuple[tuple[int, int], ...]
    limbs: tuple[tuple[int, int], ...]
    sigmas: tuple[float, ...]
    category: str = PERSON
    upper_body: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.keypoints:
            raise ValueError("a skeleton needs at least one keypoint")
        twice = [name for name in self.keypoints if self.keypoints.count(name) > 1]
        if twice:
            raise ValueError(f"keypoint {twice[0]!r} is listed twice")
        paired = [index for pair in self.mirror_pairs for index in pair]
        indices = [*paired, *(end for limb in self.limbs for end in limb), *self.upper_body]
        if unknown := [index for index in indices if not 0 <= index < len(self.keypoints)]:
            last = len(self.keypoints) - 1
            raise ValueError(f"keypoints are numbered 0 to {last}: there is no {unknown[0]}")
        if len(set(paired)) != len(paired):
            double = next(index for index in paired if paired.count(index) > 1)
            raise ValueError(f"keypoint {self.keypoints[double]!r} is in mirror_pairs twice")
        if len(self.sigmas) != len(self.keypoints):
            raise ValueError(
                f"sigmas has {len(self.sigmas)} numbers for {len(self.keypoints)} keypoints"
            )
        if not all(0 < sigma < math.inf for sigma in self.sigmas):
            raise ValueError(f"sigmas must be positive numbers, got {min(self.sigmas)}")

    def __len__(self) -> int:
        return len(self.keypoints)

    @cached_property
    def mirrored(self) -> tuple[int, ...]:
        """For each keypoint, the index of its counterpart in a mirror image.

        >>> COCO_PERSON.mirrored[:5]          # nose, left eye, right eye, left ear, right ear
        (0, 2, 1, 4, 3)
        """
        order = list(range(len(self.keypoints)))
        for left, right in self.mirror_pairs:
            order[left], order[right] = right, left
        return tuple(order)

    def side(self, keypoint: int) -> Side:
        """The body's own side of a keypoint, according to the mirror pairs."""
        for left, right in self.mirror_pairs:
            if keypoint in (left, right):
                return "left" if keypoint == left else "right"
        return "middle"


def side_and_part(name: str) -> tuple[Side, str]:
    """What a keypoint's name says about its side, and the rest of it, which both sides share.

    A side is one word of the name: "left", "right", "L" or "R".

    >>> side_and_part("left_eye"), side_and_part("R_F_Paw"), side_and_part("earLeft")
    (('left', 'eye'), ('right', 'f_paw'), ('left', 'ear'))
    >>> side_and_part("nose")
    ('middle', 'nose')
    """
    words = [word.lower() for word in _WORDS.findall(name)]
    places = [place for place, word in enumerate(words) if word in _SIDES]
    if len(places) != 1 or len(words) == 1:
        return "middle", name
    (place,) = places
    return _SIDES[words[place]], "_".join(words[:place] + words[place + 1 :])


def mirror_pairs_by_name(names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """The index pairs (left, right) of keypoints whose names differ only in their side.

    >>> mirror_pairs_by_name(["nose", "left_eye", "right_eye", "left_horn"])
    ((1, 2),)
    """
    by_part: dict[str, dict[Side, list[int]]] = {}
    for index, name in enumerate(names):
        side, part = side_and_part(name)
        by_part.setdefault(part, {}).setdefault(side, []).append(index)
    return tuple(
        (of_side["left"][0], of_side["right"][0])
        for of_side in by_part.values()
        if len(of_side.get("left", ())) == len(of_side.get("right", ())) == 1
    )


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
    upper_body=tuple(range(11)),
)
