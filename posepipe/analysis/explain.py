"""What each kind of error costs: AP as it would be without it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from posepipe.analysis.errors import (
    LEAST_OKS,
    Errors,
    KeypointError,
    find_errors,
    pairs_within_images,
)
from posepipe.core.boxes import area
from posepipe.scoring.coco import POSES_PER_IMAGE, average_precision, size_of
from posepipe.scoring.comparison import PoseComparison
from posepipe.scoring.matching import BoolArray, FloatArray, Found, IntArray, match, place_in_run

SCORE_ORDER = "score order"


@dataclass(frozen=True)
class Cause:
    """One kind of error, and what AP would be without it.

    Attributes:
        name: of the kind.
        count: how many there are: keypoints, poses or people.
        unit: what is counted.
        alone: AP if this kind alone were mended.
        progressive: AP if this kind and all before it were mended.
    """

    name: str
    count: int
    unit: str
    alone: float
    progressive: float


@dataclass(frozen=True)
class Group:
    """How well the people of one kind are found.

    Attributes:
        trait: by what people are grouped: "size", "people who overlap" or "labelled keypoints".
        name: the kind.
        people: how many of them count.
        found: how many have a pose at all (OKS 0.1).
        mean_oks: of those who have one; None if nobody has.
        shares: of their labelled keypoints, the share of each `KeypointError`, by name.
    """

    trait: str
    name: str
    people: int
    found: int
    mean_oks: float | None
    shares: dict[str, float]


@dataclass(frozen=True)
class Explanation:
    """Why AP is what it is.

    Attributes:
        ap: COCO's AP as it is; None if nobody counts, and then nothing is explained.
        causes: in the order in which they are mended; the last one's `progressive` is 1.
        ap_perfect_order: AP if poses were ranked by how good they are, all else as it is: what the
            rule that makes pose scores costs.
        groups: people by size, crowding and number of labelled keypoints.
        per_keypoint: for each keypoint's name the share of each kind among its labelled points.
    """

    ap: float | None
    causes: tuple[Cause, ...]
    ap_perfect_order: float | None
    groups: tuple[Group, ...]
    per_keypoint: dict[str, dict[str, float]]


def explain(comparison: PoseComparison) -> Explanation:
    """Judge every pose and keypoint, and mend the kinds of errors one after another.

    In order: misses, swaps, inversions and jitter are put where their labels are, and after them
    what is good, but not exact; poses are ranked by their OKS with the person whom they are about;
    poses about nobody are left out; people without a pose are left out. Nothing is wrong then, and
    AP is 1.
    """
    ap = average_precision(comparison)
    if ap is None:
        return Explanation(None, (), None, (), {})
    comparison = _of_poses(comparison, _best_of_images(comparison))
    errors = find_errors(comparison)
    causes = []
    mended = comparison
    for name, count, unit, mend in _mendings(comparison, errors):
        mended = mend(mended)
        causes.append(Cause(name, count, unit, _ap(mend(comparison)), _ap(mended)))
    in_order = next(cause.alone for cause in causes if cause.name == SCORE_ORDER)
    return Explanation(
        ap=ap,
        causes=tuple(causes),
        ap_perfect_order=in_order,
        groups=_groups(comparison, errors),
        per_keypoint={
            keypoint: _shares(errors.kinds[:, index])
            for index, keypoint in enumerate(comparison.skeleton.keypoints)
        },
    )


Mend = Callable[[PoseComparison], PoseComparison]


def _mendings(comparison: PoseComparison, errors: Errors) -> list[tuple[str, int, str, Mend]]:
    """Name, number, unit and remedy of each kind of error, in order."""

    def moved(*kinds: KeypointError) -> Mend:
        return lambda comparison: _at_their_labels(comparison, errors, kinds)

    kind = KeypointError
    return [
        ("miss", errors.count(kind.MISS), "keypoints", moved(kind.MISS)),
        ("swap", errors.count(kind.SWAP), "keypoints", moved(kind.SWAP)),
        ("inversion", errors.count(kind.INVERSION), "keypoints", moved(kind.INVERSION)),
        ("jitter", errors.count(kind.JITTER), "keypoints", moved(kind.JITTER)),
        ("good, not exact", errors.count(kind.GOOD), "keypoints", moved(kind.GOOD)),
        (SCORE_ORDER, _misranked(comparison), "people", _in_order),
        (
            "false positive",
            len(errors.spurious),
            "poses",
            lambda c: _of_poses(c, errors.relevant),
        ),
        ("false negative", len(errors.missed), "people", lambda c: _without_missed(c, errors)),
    ]


def _ap(comparison: PoseComparison) -> float:
    """AP where somebody counts; where all who counted were left out nothing is wrong."""
    ap = average_precision(comparison)
    return 1.0 if ap is None else ap


def _at_their_labels(
    comparison: PoseComparison, errors: Errors, kinds: Sequence[KeypointError]
) -> PoseComparison:
    keypoints_xy = comparison.keypoints_xy.copy()
    pair, keypoint = np.nonzero(np.isin(errors.kinds, kinds))
    labels_xy = comparison.labels_xy[errors.people[pair], keypoint]
    keypoints_xy[errors.found[pair], keypoint] = labels_xy
    return replace(comparison, keypoints_xy=keypoints_xy)


def _in_order(comparison: PoseComparison) -> PoseComparison:
    """Ranked as would be best: by OKS, each person's most similar pose before all duplicates."""
    pose, _, similar = _pairs_of_people_who_count(comparison)
    scores = np.zeros(len(comparison.found.scores))
    np.maximum.at(scores, pose, similar)
    ranked = replace(comparison, found=replace(comparison.found, scores=scores))
    matches = match(
        ranked.found,
        ranked.labelled,
        ranked.oks,
        thresholds=np.array([LEAST_OKS]),
        area_ranges=((0.0, np.inf),),
        most=POSES_PER_IMAGE,
    )
    right = (matches.labels[0, 0] >= 0) & ~matches.ignored[0, 0]
    found, people = matches.found[right], matches.labels[0, 0][right]
    scores = np.full(len(scores), -1.0)
    scores[found] = ranked.oks(found, people)
    return replace(comparison, found=replace(comparison.found, scores=scores))


def _misranked(comparison: PoseComparison) -> int:
    """For how many people the pose of the highest score is not the most similar one.

    A pose counts for the person to whom it is most similar.
    """
    pose, person, similar = _pairs_of_people_who_count(comparison)
    nearest = np.lexsort((-similar, pose))
    nearest = nearest[np.unique(pose[nearest], return_index=True)[1]]
    nearest = nearest[similar[nearest] >= LEAST_OKS]
    pose, person, similar = pose[nearest], person[nearest], similar[nearest]
    by_score = np.lexsort((-comparison.found.scores[pose], person))
    by_oks = np.lexsort((-similar, person))
    first = np.unique(person[by_score], return_index=True)[1]
    return int(np.count_nonzero(similar[by_score[first]] < similar[by_oks[first]]))


def _pairs_of_people_who_count(
    comparison: PoseComparison,
) -> tuple[IntArray, IntArray, FloatArray]:
    """(Q,) poses, (Q,) people of the same image, (Q,) their OKS."""
    people = np.flatnonzero(~comparison.labelled.ignored)
    pose, place = pairs_within_images(comparison.found.images, comparison.labelled.images[people])
    return pose, people[place], comparison.oks(pose, people[place])


def _best_of_images(comparison: PoseComparison) -> IntArray:
    """The poses that an evaluation considers, by index."""
    found = comparison.found
    order = np.lexsort((-found.scores, found.images))
    return np.sort(order[place_in_run(found.images[order]) < POSES_PER_IMAGE])


def _of_poses(comparison: PoseComparison, kept: IntArray) -> PoseComparison:
    """With these poses alone."""
    found = comparison.found
    return replace(
        comparison,
        found=Found(found.images[kept], found.scores[kept], found.areas[kept]),
        keypoints_xy=comparison.keypoints_xy[kept],
    )


def _without_missed(comparison: PoseComparison, errors: Errors) -> PoseComparison:
    """Without the people whom no pose is about."""
    ignored = comparison.labelled.ignored.copy()
    ignored[errors.missed] = True
    return replace(comparison, labelled=replace(comparison.labelled, ignored=ignored))


def _groups(comparison: PoseComparison, errors: Errors) -> tuple[Group, ...]:
    counts = np.flatnonzero(~comparison.labelled.ignored)
    sizes = np.array([size_of(area) for area in comparison.labelled.areas.tolist()], dtype=str)
    neighbours = _neighbours(comparison)
    labelled = np.count_nonzero(comparison.visible, axis=1)
    third, most = (len(comparison.skeleton) * n // 3 for n in (1, 2))
    traits: dict[str, dict[str, BoolArray]] = {
        "size": {name: sizes == name for name in ("small", "medium", "large")},
        "people who overlap": {
            "none": neighbours == 0,
            "1 or 2": (neighbours > 0) & (neighbours < 3),
            "3 or more": neighbours >= 3,
        },
        "labelled keypoints": {
            f"1 to {third}": labelled <= third,
            f"{third + 1} to {most}": (labelled > third) & (labelled <= most),
            f"more than {most}": labelled > most,
        },
    }
    groups = []
    for trait, kinds in traits.items():
        for name, members in kinds.items():
            people = counts[members[counts]]
            inside = members[errors.people]
            found = int(np.count_nonzero(inside))
            groups.append(
                Group(
                    trait=trait,
                    name=name,
                    people=len(people),
                    found=found,
                    mean_oks=float(errors.oks[inside].mean()) if found else None,
                    shares=_shares(errors.kinds[inside]),
                )
            )
    return tuple(groups)


def _neighbours(comparison: PoseComparison) -> IntArray:
    """(M,) how many other people of the image have a box of IoU 0.1 or more with a person's."""
    boxes = comparison.boxes_xyxy
    images = comparison.labelled.images
    one, other = pairs_within_images(images, images)
    low = np.maximum(boxes[one, :2], boxes[other, :2])
    high = np.minimum(boxes[one, 2:], boxes[other, 2:])
    shared = area(np.concatenate([low, high], axis=1))
    union = area(boxes[one]) + area(boxes[other]) - shared
    near = (shared >= 0.1 * union) & (one != other)
    return np.bincount(one[near], minlength=len(boxes))


def _shares(kinds: npt.NDArray[np.int8]) -> dict[str, float]:
    """The share of each kind among the labelled keypoints; no shares where there are none."""
    judged = kinds[kinds != KeypointError.UNLABELLED]
    if not judged.size:
        return {}
    return {
        kind.name.lower(): float(np.count_nonzero(judged == kind) / judged.size)
        for kind in KeypointError
        if kind != KeypointError.UNLABELLED
    }
