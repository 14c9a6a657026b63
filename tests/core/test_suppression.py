from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st

from posepipe.core.boxes import iou
from posepipe.core.suppression import Suppression, suppress

METHODS = [
    Suppression(method="soft_gaussian"),
    Suppression(method="soft_gaussian", sigma=0.1, min_score=0.2),
    Suppression(method="soft_linear"),
    Suppression(method="soft_linear", threshold=0.6),
    *(Suppression(method="hard", threshold=threshold) for threshold in (0.3, 0.4, 0.5, 0.6)),
    Suppression(method="none"),
    Suppression(method="soft_gaussian", top_k=20),
    Suppression(method="hard", top_k=20),
]


def named(settings: Suppression) -> str:
    return f"{settings.method}-{settings.threshold}-{settings.sigma}-{settings.top_k}"


def crowd(seed: int, people: int = 60, classes: int = 4, size: float = 100.0):
    """Random boxes that overlap a lot, with scores no two of which are equal."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, size * 0.7, (people, 2))
    sides = random.uniform(size * 0.1, size * 0.5, (people, 2))
    boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    scores = (random.permutation(people) + 1).astype(np.float32) / (people + 1)
    return boxes, scores, random.integers(0, classes, people)


def papers_loop(boxes, scores, classes, settings: Suppression):
    """Figure 2 of the Soft-NMS paper, class by class, then the best top_k of all classes."""
    overlap = iou(boxes, boxes)
    picked = []
    for label in set(classes.tolist()):
        left = [(float(scores[i]), i) for i in np.flatnonzero(classes == label)]
        while left:
            best_score, best = max(left, key=lambda pair: (pair[0], -pair[1]))
            if best_score < settings.min_score:
                break
            picked.append((best_score, best))
            remaining = []
            for score, i in left:
                shared = float(overlap[best, i])
                if i == best or (settings.method == "hard" and shared > settings.threshold):
                    continue
                if settings.method == "soft_linear" and shared > settings.threshold:
                    score *= 1 - shared
                if settings.method == "soft_gaussian":
                    score *= math.exp(-(shared**2) / settings.sigma)
                remaining.append((score, i))
            left = remaining
    picked.sort(key=lambda pair: (-pair[0], pair[1]))
    return picked[: settings.top_k]


@pytest.mark.parametrize("settings", METHODS, ids=named)
def test_it_gives_what_a_plain_loop_from_the_paper_gives(settings: Suppression) -> None:
    for seed in range(8):
        boxes, scores, classes = crowd(seed)
        expected = papers_loop(boxes, scores, classes, settings)
        picks = suppress(boxes, scores, classes, settings)
        assert picks.indices.tolist() == [index for _, index in expected]
        np.testing.assert_allclose(picks.scores, [score for score, _ in expected], rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.3, 0.4, 0.5, 0.6])
def test_hard_nms_equals_that_of_torchvision(threshold: float) -> None:
    settings = Suppression(method="hard", threshold=threshold, min_score=0.0)
    removed = 0
    for seed in range(30):
        boxes, scores, classes = crowd(seed, people=90)
        expected = torchvision.ops.batched_nms(
            torch.from_numpy(boxes), torch.from_numpy(scores), torch.from_numpy(classes), threshold
        )[:100].tolist()
        assert suppress(boxes, scores, classes, settings).indices.tolist() == expected
        removed += len(boxes) - len(expected)
    assert removed > 0


def test_hard_nms_equals_that_of_torchvision_where_overlaps_meet_the_threshold() -> None:
    # Whole-number boxes of a coarse grid: overlaps of exactly 1/2, 3/10, … and equal scores too.
    random = np.random.default_rng(3)
    for threshold in (0.25, 0.3, 0.5, 0.6):
        corner = random.integers(0, 6, (300, 2))
        boxes = np.concatenate([corner, corner + random.integers(1, 6, (300, 2))], axis=1)
        boxes, scores = boxes.astype(np.float32), np.full(300, 0.5, np.float32)
        expected = torchvision.ops.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold)
        settings = Suppression(method="hard", threshold=threshold, top_k=300)
        picks = suppress(boxes, scores, np.zeros(300, int), settings)
        assert picks.indices.tolist() == expected.tolist()


@pytest.mark.parametrize("settings", METHODS, ids=named)
class TestLaws:
    def test_nothing_stays_of_nothing(self, settings: Suppression) -> None:
        picks = suppress([], [], [], settings)
        assert len(picks) == 0
        assert picks.indices.dtype == np.int64
        assert picks.scores.dtype == np.float32

    def test_a_single_box_stays_with_its_score(self, settings: Suppression) -> None:
        picks = suppress([[0, 0, 5, 5]], [0.75], [1], settings)
        assert (picks.indices.tolist(), picks.scores.tolist()) == ([0], [0.75])

    def test_the_order_of_the_input_does_not_matter(self, settings: Suppression) -> None:
        for seed in range(5):
            boxes, scores, classes = crowd(seed)
            shuffle = np.random.default_rng(seed).permutation(len(boxes))
            straight = suppress(boxes, scores, classes, settings)
            shuffled = suppress(boxes[shuffle], scores[shuffle], classes[shuffle], settings)
            assert shuffle[shuffled.indices].tolist() == straight.indices.tolist()
            np.testing.assert_array_equal(shuffled.scores, straight.scores)

    def test_no_box_is_picked_twice_and_no_score_grows(self, settings: Suppression) -> None:
        for seed in range(5):
            boxes, scores, classes = crowd(seed)
            picks = suppress(boxes, scores, classes, settings)
            assert len(set(picks.indices.tolist())) == len(picks) > 0
            assert (picks.scores <= scores[picks.indices]).all()
            assert (np.diff(picks.scores) <= 0).all()
            assert (picks.scores >= settings.min_score).all()

    def test_classes_do_not_influence_each_other(self, settings: Suppression) -> None:
        boxes, scores, classes = crowd(7)
        settings = _with(settings, top_k=100)
        together = suppress(boxes, scores, classes, settings)
        for label in range(4):
            own = np.flatnonzero(classes == label)
            alone = suppress(boxes[own], scores[own], classes[own], settings)
            of_label = classes[together.indices] == label
            assert own[alone.indices].tolist() == together.indices[of_label].tolist()

    def test_fewer_places_are_a_beginning_of_more_places(self, settings: Suppression) -> None:
        boxes, scores, classes = crowd(8)
        many = suppress(boxes, scores, classes, settings)
        few = suppress(boxes, scores, classes, _with(settings, top_k=5))
        assert few.indices.tolist() == many.indices[:5].tolist()


def test_the_top_of_all_classes_leaves_a_weak_person_no_place() -> None:
    far_apart = [[x, 0, x + 5, 5] for x in (0, 10, 20)]
    picks = suppress(far_apart, [0.5, 0.9, 0.8], [1, 2, 3], Suppression(top_k=2))
    assert picks.indices.tolist() == [1, 2]


@pytest.mark.parametrize("method", ["soft_gaussian", "soft_linear", "none"])
def test_identical_boxes_are_each_picked_once_when_no_score_is_too_low(method: str) -> None:
    settings = Suppression(method=method, min_score=0.0)
    picks = suppress([[0, 0, 5, 5]] * 6, [0.5] * 6, [1] * 6, settings)
    assert picks.indices.tolist() == list(range(6))


def test_boxes_without_area_overlap_with_nothing() -> None:
    picks = suppress([[3, 3, 3, 3], [3, 3, 3, 3], [0, 0, 9, 9]], [0.9, 0.8, 0.7], [1, 1, 1])
    assert picks.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])


@given(
    st.lists(
        st.tuples(*[st.integers(0, 12)] * 4, st.integers(0, 8), st.integers(0, 2)), max_size=25
    ),
    st.sampled_from([settings for settings in METHODS if settings.method != "soft_gaussian"]),
)
def test_ties_and_touching_boxes_go_by_the_order_of_the_input(rows, settings) -> None:
    table = np.array(rows, dtype=np.float32).reshape(-1, 6)
    corner, sides = table[:, :2], table[:, 2:4]
    boxes, scores = np.concatenate([corner, corner + sides], axis=1), table[:, 4] / 8
    classes = table[:, 5].astype(int)
    # An order by scores that differ by rounding alone would depend on the order of the factors.
    expected = papers_loop(boxes, scores, classes, settings)
    picks = suppress(boxes, scores, classes, settings)
    np.testing.assert_allclose(picks.scores, [score for score, _ in expected], rtol=1e-5)
    if settings.method != "soft_linear":
        assert picks.indices.tolist() == [index for _, index in expected]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"method": "softest"}, "softest"),
        ({"threshold": 1.5}, "1.5"),
        ({"sigma": 0.0}, "sigma"),
        ({"min_score": -0.1}, "min_score"),
        ({"top_k": 0}, "top_k"),
    ],
)
def test_a_setting_out_of_range_is_refused(wrong, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Suppression(**wrong)


def test_arrays_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths differ"):
        suppress([[0, 0, 1, 1]], [0.5, 0.6], [1])


def _with(settings: Suppression, **changes: object) -> Suppression:
    return Suppression(**{**vars(settings), **changes})
