"""Which keypoints are mined: by hand, and against a loop written from the paper."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from losses_by_hand import (
    Crops,
    crops,
    losses_of,
    off_by,
    random_case,
    refine_loss,
    touched,
)

from posepipe.training.pose.losses import (
    PoseLossTable,
    hardest_keypoints,
    pose_loss,
    pose_loss_counts,
)


@pytest.mark.parametrize(
    ("off", "weights", "hardest", "expected"),
    [
        # The two hardest of three: (9 + 4) / 2.
        ([[3, 1, 2]], [[1.0, 1.0, 1.0]], 2, 6.5),
        ([[3, 1, 2]], [[1.0, 1.0, 1.0]], 1, 9),
        # All of them, also when more are asked for.
        ([[3, 1, 2]], [[1.0, 1.0, 1.0]], 3, 14 / 3),
        ([[3, 1, 2]], [[1.0, 1.0, 1.0]], 17, 14 / 3),
        # The hardest is not annotated.
        ([[3, 1, 2]], [[0.0, 1.0, 1.0]], 1, 4),
        # Fewer annotated than asked for: those there are, and no others.
        ([[3, 1, 2]], [[0.0, 1.0, 0.0]], 2, 1),
        # Two people: (9 + 4 + 1) / 3, each keypoint that is learnt from having an equal say.
        ([[3, 1, 2], [1, 5, 5]], [[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], 2, 14 / 3),
        # A person with nothing annotated says nothing.
        ([[3, 1, 2], [5, 5, 5]], [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]], 2, 6.5),
        # A doubtful keypoint: 0.25 * 9 is less than 4, so it is not mined ...
        ([[3, 1, 2]], [[0.25, 1.0, 1.0]], 1, 4),
        # ... 0.5 * 9 is more, and it counts as a whole one in the divisor: (4.5 + 4) / 2.
        ([[3, 1, 2]], [[0.5, 1.0, 1.0]], 2, 4.25),
    ],
)
def test_hard_keypoints_by_hand(off, weights, hardest, expected):
    found = refine_loss(off_by(*off), crops(weights), hardest=hardest)
    assert found == pytest.approx(expected)


def test_the_keypoints_that_were_mined_are_counted():
    off = off_by([3, 1, 2], [3, 1, 2], [5, 5, 1])
    labels = crops([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    _, mined = losses_of([], off, labels, hardest=1)
    assert mined.dtype == torch.int64
    assert mined.tolist() == [2, 1, 0]
    _, mined = losses_of([], off, labels, hardest=17)
    assert mined.tolist() == [2, 3, 3]


def test_perfect_keypoints_that_nobody_can_tell_apart_are_mined_among_the_annotated():
    labels = crops([[0.0, 0.0, 1.0, 0.0]])
    _, mined = losses_of([], off_by([0, 0, 0, 0]), labels, hardest=2)
    assert mined.tolist() == [0, 0, 1, 0]


def mined_by_a_loop(losses, weights, hardest):
    """Section 3.2.2, person by person: keep the M largest losses of the annotated keypoints."""
    kept = []
    for person, annotated in zip(losses.tolist(), weights.tolist(), strict=True):
        theirs = [
            loss * weight for loss, weight in zip(person, annotated, strict=True) if weight > 0
        ]
        kept += sorted(theirs)[::-1][:hardest]
    return sum(kept) / len(kept) if kept else 0.0


@given(st.integers(0, 10_000), st.integers(0, 5), st.integers(1, 20), st.floats(0, 1))
def test_mining_equals_a_loop_written_from_the_paper(seed, people, hardest, share):
    generator = torch.Generator().manual_seed(seed)
    doubts = torch.rand(people, 17, generator=generator)
    weights = (torch.rand(people, 17, generator=generator) < share) * doubts
    off = torch.randn(people, 17, generator=generator)
    labels = Crops(torch.zeros(people, 17, 2), weights, 2 * weights.gt(0).long())
    found = refine_loss((1 - off)[..., None, None], labels, hardest=hardest)
    expected = mined_by_a_loop(off.square(), weights, hardest)
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("hardest", [6, 8, 10, 12, 14, 17])
def test_every_row_of_table_6_learns_from_m_keypoints_of_each_person(hardest):
    heatmaps, labels = random_case(hardest, share=0.8)
    table = PoseLossTable(hardest=hardest)
    losses, mined = pose_loss(heatmaps, labels, table, stride=4, amplitude=1)
    torch.stack([part.mean for part in losses.values()]).sum().backward()
    annotated = labels.weights.gt(0)
    expected = annotated.sum(dim=1).clamp(max=hardest)
    learnt = touched(heatmaps.refined)
    assert learnt.sum(dim=1).tolist() == expected.tolist()
    assert not (learnt & ~annotated).any()
    assert mined.tolist() == learnt.sum(dim=0).tolist()
    assert losses["refine"].count.item() == expected.sum()
    ahead = pose_loss_counts(labels, table, levels=4, refined=True)
    assert ahead["refine"].item() == expected.sum()
    for maps in heatmaps.levels:  # GlobalNet learns from every annotated keypoint.
        assert touched(maps).equal(annotated)


def test_m_of_seventeen_is_no_mining():
    heatmaps, labels = random_case(0)
    means = [
        pose_loss(heatmaps, labels, PoseLossTable(**fields), stride=4, amplitude=1)[0][
            "refine"
        ].mean
        for fields in ({"refine": "l2*", "hardest": 17}, {"refine": "l2"})
    ]
    assert means[0].item() == means[1].item() > 0


def test_mining_in_globalnet_is_done_level_by_level():
    levels = [off_by([3, 1, 2]).requires_grad_(), off_by([1, 3, 2]).requires_grad_()]
    losses, _ = losses_of(levels, off_by([0, 0, 0]), crops([[1.0] * 3]), levels="l2*", hardest=1)
    losses["global"].total.backward()
    assert [touched(maps).tolist() for maps in levels] == [
        [[True, False, False]],
        [[False, True, False]],
    ]


def test_with_as_few_as_asked_for_all_of_a_person_are_chosen():
    counted = torch.tensor([[True, False, True, False]])
    losses = torch.tensor([[0.0, 9.0, 0.0, 9.0]])
    assert hardest_keypoints(losses, counted, 2).equal(counted)
    assert hardest_keypoints(losses, counted, 3).equal(counted)
    assert hardest_keypoints(losses, torch.zeros_like(counted), 2).sum() == 0
