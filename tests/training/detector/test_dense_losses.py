"""A single-stage detector's losses: which cells learn what, by hand; and that it learns."""

from __future__ import annotations

import pytest
import torch

from posepipe.detection.rtmdet import RTMDetPreprocessing
from posepipe.detection.rtmdet_network import RTMDet, RTMDetTable, cell_corners
from posepipe.training.detector.batches import DetectionBatch, Target
from posepipe.training.detector.dense_losses import (
    NAMES,
    DenseLosses,
    Truth,
    assign_cells,
    box_counts,
    cell_strides,
    overlaps_of,
    within,
)
from posepipe.training.detector.task import DetectorTrainingTable

SIDE = 64
SIZE = (SIDE, SIDE)


def target(boxes=(), ignored=(), classes=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Target(
        boxes,
        torch.ones(len(boxes), dtype=torch.int64) if classes is None else torch.tensor(classes),
        torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
    )


def batch_of(*targets, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (len(targets), SIDE, SIDE, 3), generator=generator)
    return DetectionBatch(
        pixels.to(torch.uint8), (SIZE,) * len(targets), targets, tuple(range(len(targets)))
    )


def module(classes=2, norm=False, **fields):
    torch.manual_seed(0)
    network = RTMDet(RTMDetTable(width=0.125, channels=16, norm=norm, classes=classes)).train()
    return DenseLosses(network, RTMDetPreprocessing(), DetectorTrainingTable(samples=1, **fields))


def assigned(boxes, logits, *targets):
    corners, strides = cell_corners(SIZE), cell_strides(SIZE)
    return assign_cells(boxes, logits, corners, strides, Truth.of(targets))


def perfect(box):
    """All cells of one image say this box, and nothing of its score."""
    number = len(cell_corners(SIZE))
    boxes = torch.tensor(box).float().expand(1, number, 4)
    return boxes, torch.zeros(1, number, 1)


def test_overlaps_are_ious_and_boxes_turned_inside_out_have_none():
    boxes = torch.tensor([[[0.0, 0, 4, 4], [2, 0, 6, 4], [4, 4, 0, 0]]])
    truth = torch.tensor([[[0.0, 0, 4, 4]]])
    assert overlaps_of(boxes, truth)[0, :, 0].tolist() == pytest.approx([1, 1 / 3, 0])


def test_only_cells_within_a_box_find_it_those_at_its_middle_first():
    box = (16.0, 16.0, 40.0, 40.0)
    boxes, logits = perfect(box)
    index, overlap = assigned(boxes, logits, target([box]))
    found = index[0] >= 0
    inside = within(cell_corners(SIZE), torch.tensor([[box]]))[0, :, 0]
    assert 0 < found.sum() <= 13
    assert not (found & ~inside).any()
    assert overlap[0][found].tolist() == pytest.approx([1.0] * int(found.sum()))
    away = (cell_corners(SIZE) - 28).norm(dim=1) / cell_strides(SIZE)
    chosen, left = away[found], away[inside & ~found]
    assert len(left) == 0 or chosen.max() <= left.min()


def test_a_person_gets_as_many_cells_as_the_overlaps_add_up_to():
    box = (8.0, 8.0, 56.0, 56.0)
    boxes, logits = perfect(box)
    exact, _ = assigned(boxes, logits, target([box]))
    narrow = boxes.clone()
    narrow[..., 2] = 8 + 48 * 0.4  # an IoU of 0.4 everywhere
    fewer, overlap = assigned(narrow, logits, target([box]))
    assert (exact >= 0).sum() == 13
    assert (fewer >= 0).sum() == 5  # 13 * 0.4, whole cells
    assert overlap[fewer >= 0].tolist() == pytest.approx([0.4] * 5)


def test_a_person_whom_nothing_overlaps_gets_one_cell():
    boxes, logits = perfect((0.0, 0.0, 1.0, 1.0))
    index, _ = assigned(boxes, logits, target([(16.0, 16.0, 40.0, 40.0)]))
    assert (index >= 0).sum() == 1


def test_a_cell_that_two_want_goes_to_the_one_that_it_fits():
    first, second = (8.0, 8.0, 56.0, 56.0), (12.0, 12.0, 52.0, 60.0)
    boxes, logits = perfect(second)
    index, _ = assigned(boxes, logits, target([first, second]))
    assert (index == 1).sum() == 13
    assert set(index.unique().tolist()) <= {-1, 0, 1}


def test_images_of_a_batch_are_assigned_as_if_alone():
    torch.manual_seed(2)
    number = len(cell_corners(SIZE))
    low = 40 * torch.rand(2, number, 2)
    boxes = torch.cat([low, low + 4 + 20 * torch.rand(2, number, 2)], dim=2)
    logits = torch.randn(2, number, 1)
    targets = target([(4.0, 4.0, 30.0, 50.0), (20.0, 10.0, 60.0, 60.0)]), target()
    together, _ = assigned(boxes, logits, *targets)
    for place, of_image in enumerate(targets):
        alone, _ = assigned(boxes[place : place + 1], logits[place : place + 1], of_image)
        assert torch.equal(together[place], alone[0])
    assert (together[1] == -1).all()


def test_in_an_empty_image_every_cell_learns_that_nobody_is_there():
    learner = module()
    losses, mined = learner(batch_of(target()))
    assert mined is None
    assert set(losses) == set(NAMES)
    assert losses["score"].total > 0
    assert losses["box"].total == 0
    sum(part.total for part in losses.values()).backward()
    gradients = [p.grad for p in learner.network.parameters() if p.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


def test_cells_in_an_ignored_region_learn_nothing_unless_they_find_somebody():
    whole = (-1.0, -1.0, 65.0, 65.0)
    learner = module()
    nothing, _ = learner(batch_of(target(ignored=[whole])))
    assert nothing["score"].total == 0
    half, _ = learner(batch_of(target(ignored=[(-1.0, -1.0, 31.0, 65.0)])))
    all_of_it, _ = learner(batch_of(target()))
    assert 0 < half["score"].total < all_of_it["score"].total
    somebody, _ = learner(batch_of(target([(8.0, 8.0, 40.0, 60.0)], ignored=[whole])))
    assert somebody["score"].total > 0
    assert somebody["box"].total > 0


def test_parts_of_a_batch_add_up_to_it():
    learner = module()
    targets = [target([(8.0, 8.0, 40.0, 60.0)]), target(), target([(2.0, 2.0, 60.0, 30.0)] * 2)]
    whole = batch_of(*targets)
    parts = [
        DetectionBatch(whole.pixels[i : i + 1].clone(), (SIZE,), (one,), (i,))
        for i, one in enumerate(targets)
    ]
    together, _ = learner(whole)
    apart = [learner(part)[0] for part in parts]
    for name in NAMES:
        total = sum(losses[name].total for losses in apart)
        assert together[name].total.item() == pytest.approx(total.item(), rel=1e-4)
        assert together[name].count == sum(box_counts(part)[name] for part in parts) == 3 + 3


def test_the_class_of_a_box_is_learnt():
    learner = module(classes=4, norm=True)
    batch = batch_of(*[target([(8.0, 8.0, 56.0, 56.0)], classes=[3])] * 2)
    optimiser = torch.optim.Adam(learner.network.parameters(), lr=1e-2)
    for _ in range(40):
        losses, _ = learner(batch)
        optimiser.zero_grad()
        sum(part.total / part.count for part in losses.values()).backward()
        optimiser.step()
    with torch.inference_mode():
        logits, _ = learner.network(learner._preprocessing.normalisation(batch.pixels))
    best = torch.cat([level.flatten(2) for level in logits], dim=2)[0].sigmoid().amax(dim=1)
    assert best.argmax() == 2
    assert best[2] > 0.4
    assert best[:2].max() < 0.2


def test_pixels_outside_an_image_are_the_fill_colour():
    learner = module()
    batch = batch_of(target(), target())
    short = DetectionBatch(batch.pixels.clone(), ((64, 32), (64, 64)), batch.targets, batch.seeds)
    other = DetectionBatch(batch.pixels.clone(), ((64, 32), (64, 64)), batch.targets, batch.seeds)
    other.pixels[0, :, 32:] = 7
    assert learner(short)[0]["score"].total == learner(other)[0]["score"].total
