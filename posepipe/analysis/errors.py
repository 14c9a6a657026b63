"""The kinds of errors that poses have.

After Ronchi and Perona, *Benchmarking and Error Diagnosis in Multi-Instance Pose Estimation* (ICCV
2017). Every pose is matched with a labelled person at a low OKS. Each labelled keypoint of such a
person is then one of: good, jitter (near, but not at its place), inversion (at the place of its
mirror image in the same person), swap (at the place of that keypoint, or of its mirror image, in
another person) or miss (elsewhere). Poses without a person and people without a pose are false
positives and false negatives.

Differences from the paper: another person's keypoint is near by that person's own size; and
where both fit, an inversion and a swap, the nearer one counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from posepipe.scoring.coco import POSES_PER_IMAGE, THRESHOLDS
from posepipe.scoring.comparison import PoseComparison
from posepipe.scoring.matching import BoolArray, FloatArray, IntArray, match, ranges
from posepipe.scoring.oks import similarity_of_keypoints

LEAST_OKS = 0.1  # the least at which a pose is about a person at all
GOOD = 0.85  # similarity of a keypoint with its label: human annotators agree about as well
NEAR = 0.5


class KeypointError(IntEnum):
    """What a keypoint of a matched person is; `UNLABELLED` ones are not judged."""

    UNLABELLED = -1
    GOOD = 0
    JITTER = 1
    INVERSION = 2
    SWAP = 3
    MISS = 4


@dataclass(frozen=True, eq=False)
class Errors:
    """What is wrong with the poses of a comparison.

    Attributes:
        found: (P,) poses that are about a person who counts, by index.
        people: (P,) that person, by index; nobody is in it twice.
        oks: (P,) of the pair.
        kinds: (P, K) `KeypointError` of each keypoint.
        relevant: (R,) poses that fit somebody who counts at 0.1 or at one of COCO's thresholds:
            `found`, and those that are better than the one of a higher score.
        spurious: (F,) poses that fit nobody who counts, and are not ignored at OKS 0.5 either.
        missed: (L,) people who count and whom no pose is about.
    """

    found: IntArray
    people: IntArray
    oks: FloatArray
    kinds: npt.NDArray[np.int8]
    relevant: IntArray
    spurious: IntArray
    missed: IntArray

    def count(self, kind: KeypointError) -> int:
        """How many keypoints are of a kind."""
        return int(np.count_nonzero(self.kinds == kind))


def find_errors(comparison: PoseComparison) -> Errors:
    """Match poses with people, and judge each keypoint.

    As in COCO's evaluation, the 20 best poses of an image count, and poses that fit only
    people who do not count (crowds, nobody labelled their keypoints) are neither right nor wrong.
    """
    matches = match(
        comparison.found,
        comparison.labelled,
        comparison.oks,
        thresholds=np.array([LEAST_OKS, *THRESHOLDS]),
        area_ranges=((0.0, np.inf),),
        most=POSES_PER_IMAGE,
    )
    fits = (matches.labels[0] >= 0) & ~matches.ignored[0]  # at each threshold
    found, people = matches.found[fits[0]], matches.labels[0, 0][fits[0]]
    relevant = fits.any(axis=0)
    counts = ~comparison.labelled.ignored
    return Errors(
        found=found,
        people=people,
        oks=comparison.oks(found, people),
        kinds=_kinds(comparison, found, people),
        relevant=np.sort(matches.found[relevant]),
        spurious=matches.found[~relevant & ~matches.ignored[0, 1]],
        missed=np.setdiff1d(np.flatnonzero(counts), people),
    )


def mean_oks(comparison: PoseComparison, errors: Errors) -> dict[int, float]:
    """By image number the mean OKS of the people who count, 0 for those without a pose.

    Images in which nobody counts are not in it.
    """
    people, total = oks_of_images(comparison, errors)
    return {int(n): float(total[n] / people[n]) for n in np.flatnonzero(people)}


def oks_of_images(
    comparison: PoseComparison, errors: Errors, *, images: int = 0
) -> tuple[FloatArray, FloatArray]:
    """How many people count in every image, and the sum of their OKS, 0 for those without a pose.

    Args:
        comparison: poses and labels.
        errors: of that comparison.
        images: how many there are, at least.
    """
    labelled = comparison.labelled
    people = np.bincount(labelled.images[~labelled.ignored], minlength=images)
    total = np.bincount(labelled.images[errors.people], errors.oks, minlength=len(people))
    return people.astype(np.float64), total.astype(np.float64)


def _kinds(comparison: PoseComparison, found: IntArray, people: IntArray) -> npt.NDArray[np.int8]:
    """(P, K) kinds of the keypoints of P pairs."""
    mirrored = list(comparison.skeleton.mirrored)
    paired = np.array(mirrored) != np.arange(len(mirrored))
    visible = comparison.visible[people]
    own = np.where(visible, _nearness(comparison, found, people), 0.0)
    inverted = np.where(paired, _nearness(comparison, found, people, mirrored), 0.0)
    swapped = np.zeros_like(own)
    pair, other = _other_people(comparison, found, people)
    for order in (None, mirrored):
        nearness = _nearness(comparison, found[pair], other, order)
        if order is not None:
            nearness[:, ~paired] = 0.0
        np.maximum.at(swapped, pair, nearness)
    kinds = np.full(own.shape, KeypointError.MISS, np.int8)
    kinds[(swapped >= NEAR) & (swapped > inverted)] = KeypointError.SWAP
    kinds[(inverted >= NEAR) & (inverted >= swapped)] = KeypointError.INVERSION
    kinds[own >= NEAR] = KeypointError.JITTER
    kinds[own >= GOOD] = KeypointError.GOOD
    kinds[~visible] = KeypointError.UNLABELLED
    return kinds


def _nearness(
    comparison: PoseComparison,
    found: IntArray,
    people: IntArray,
    order: list[int] | None = None,
) -> FloatArray:
    """(P, K) similarity of keypoints with a person's keypoints in an order; 0 if not labelled."""
    columns: list[int] | slice = slice(None) if order is None else order
    labelled: BoolArray = comparison.visible[people][:, columns]
    similar = similarity_of_keypoints(
        comparison.keypoints_xy[found],
        comparison.labels_xy[people][:, columns],
        labelled,
        comparison.boxes_xyxy[people],
        comparison.labelled.areas[people],
        sigmas=comparison.skeleton.sigmas,
    )
    return np.where(labelled, similar, 0.0)


def _other_people(
    comparison: PoseComparison, found: IntArray, people: IntArray
) -> tuple[IntArray, IntArray]:
    """Pairs with every other labelled person of their image: (Q,) pair, (Q,) person."""
    pair, other = pairs_within_images(comparison.found.images[found], comparison.labelled.images)
    apart = other != people[pair]
    return pair[apart], other[apart]


def pairs_within_images(first: IntArray, second: IntArray) -> tuple[IntArray, IntArray]:
    """Every pair of things of the same image, by index.

    Args:
        first: (N,) images of some things.
        second: (M,) images of others.

    Returns:
        (Q,) and (Q,): the pairs, in the order of the first.

    >>> [part.tolist() for part in pairs_within_images(np.array([7, 8]), np.array([8, 9, 8]))]
    [[1, 1], [0, 2]]
    """
    by_image = np.argsort(second, kind="stable")
    begin = np.searchsorted(second[by_image], first, side="left")
    number = np.searchsorted(second[by_image], first, side="right") - begin
    pair = np.repeat(np.arange(len(first)), number)
    return pair, by_image[ranges(begin, begin + number)]
