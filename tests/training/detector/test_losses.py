"""A detector's losses: by hand, against torchvision's own, and OHEM against its paper."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.models.detection._utils import BoxCoder, Matcher

from posepipe.detection.cascade import box_stages, refined
from posepipe.detection.networks import MobileNetV2FPN, compact_detector
from posepipe.detection.torchvision import Preprocessing
from posepipe.training.detector.batches import DetectionBatch, Target
from posepipe.training.detector.losses import (
    NAMES,
    DetectorLosses,
    assign,
    hardest,
    image_counts,
    regression_losses,
    sample_some,
    share_covered,
)
from posepipe.training.detector.task import DetectorTrainingTable

NOBODY = torch.zeros(0, 4)
HALF = Matcher(0.5, 0.5)
GIVEN = Preprocessing(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))


def target(boxes=(), ignored=(), classes=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return Target(
        boxes,
        torch.ones(len(boxes), dtype=torch.int64) if classes is None else torch.tensor(classes),
        torch.tensor(ignored, dtype=torch.float32).reshape(-1, 4),
    )


def batch_of(*targets, side=128, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (len(targets), side, side, 3), generator=generator)
    return DetectionBatch(
        pixels.to(torch.uint8),
        ((side, side),) * len(targets),
        targets,
        tuple(range(10, 10 + len(targets))),
    )


def small_network(classes=2, **fields):
    torch.manual_seed(0)
    return compact_detector(MobileNetV2FPN(16), classes=classes, proposals=40, **fields).train()


def losses_of(batch, network=None, **fields):
    module = DetectorLosses(
        network or small_network(), GIVEN, DetectorTrainingTable(samples=1, **fields)
    )
    module.network.backbone.eval()  # batch normalisations as they are
    losses, mined = module(batch)
    assert mined is None
    return losses


# --- what boxes are to be


def test_in_an_empty_image_everything_is_background():
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 5, 9, 9]])
    labels, matched = assign(boxes, target(), HALF, 0.5)
    assert labels.tolist() == [0, 0]
    assert matched.shape == (2, 4)
    assert assign(NOBODY, target(), HALF, 0.5)[0].shape == (0,)


def test_ignored_regions_worked_by_hand():
    boxes = torch.tensor(
        [
            [0.0, 0, 10, 10],  # the person
            [50, 50, 60, 60],  # wholly in the ignored region
            [45, 50, 55, 60],  # half in it
            [44, 50, 54, 60],  # four tenths in it
            [20, 20, 30, 30],  # background
            [40, 40, 90, 90],  # around the region, which is 400 of its 2,500 square pixels
        ]
    )
    truth = target([[0, 0, 10, 10]], [[50, 50, 70, 70]], [3])
    labels, matched = assign(boxes, truth, HALF, 0.5)
    assert labels.tolist() == [3, -1, -1, 0, 0, 0]
    assert matched[0].tolist() == [0, 0, 10, 10]


def test_a_person_in_front_of_a_crowd_is_a_person():
    boxes = torch.tensor([[50.0, 50, 60, 60], [60, 60, 70, 70]])
    truth = target([[50, 50, 60, 60]], [[40, 40, 80, 80]])
    assert assign(boxes, truth, HALF, 0.5)[0].tolist() == [1, -1]


def test_between_the_matchers_thresholds_is_neither():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 20], [0, 0, 10, 100]])
    labels, _ = assign(boxes, target([[0, 0, 10, 10]], classes=[2]), Matcher(0.7, 0.3), 0.5)
    assert labels.tolist() == [2, -1, 0]


def test_the_region_that_covers_most_decides():
    boxes = torch.tensor([[0.0, 0, 10, 10]])
    regions = torch.tensor([[0.0, 0, 4, 10], [3, 0, 10, 10], [50, 50, 60, 60]])
    assert share_covered(boxes, regions).tolist() == pytest.approx([0.7])


# --- which of them learn


def test_random_choice_has_at_most_its_share_of_positives_and_none_of_the_ignored():
    labels = torch.tensor([1] * 30 + [0] * 50 + [-1] * 20)
    chosen = sample_some(labels, 40, 0.25, torch.Generator().manual_seed(0))
    assert len(set(chosen.tolist())) == 40
    assert (labels[chosen] > 0).sum() == 10
    assert (labels[chosen] == 0).sum() == 30
    again = sample_some(labels, 40, 0.25, torch.Generator().manual_seed(0))
    other = sample_some(labels, 40, 0.25, torch.Generator().manual_seed(1))
    assert chosen.tolist() == again.tolist() != other.tolist()


def test_random_choice_takes_what_there_is():
    labels = torch.tensor([1, -1, 0])
    chosen = sample_some(labels, 40, 0.25, torch.Generator())
    assert sorted(chosen.tolist()) == [0, 2]
    assert sample_some(labels[:0], 40, 0.25, torch.Generator()).shape == (0,)


def ohem_by_a_loop(boxes, losses, number, overlap):
    """Section 4.2 of Shrivastava et al.: the highest loss, then drop what overlaps it; repeat."""

    def iou(a, b):
        sides = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
        shared = sides[0] * sides[1]
        whole = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)) - shared
        return shared / whole

    left, chosen = sorted(range(len(losses)), key=lambda i: -losses[i]), []
    while left and len(chosen) < number:
        best = left.pop(0)
        chosen.append(best)
        left = [i for i in left if iou(boxes[best], boxes[i]) <= overlap]
    return chosen


@given(
    st.integers(0, 10_000), st.integers(0, 40), st.integers(1, 20), st.sampled_from([0.5, 0.7, 1])
)
def test_hard_examples_equal_a_loop_written_from_the_paper(seed, count, number, overlap):
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(count, 2, generator=generator) * 20
    boxes = torch.cat([low, low + 10 + 10 * torch.rand(count, 2, generator=generator)], dim=1)
    losses = torch.rand(count, generator=generator)
    expected = ohem_by_a_loop(boxes.tolist(), losses.tolist(), number, overlap)
    assert hardest(boxes, losses, number, overlap).tolist() == expected


def test_only_the_hardest_rois_of_each_image_are_learnt_from():
    network = small_network()
    network.backbone.eval()
    network.roi_heads.fg_bg_sampler.batch_size_per_image = 6
    seen = {}

    class Spy(DetectorLosses):
        def _read_only_losses(self, *args):
            seen["candidates"] = super()._read_only_losses(*args)
            return seen["candidates"]

        def _roi_losses(self, *args):
            seen["latest"] = super()._roi_losses(*args)
            return seen["latest"]

    table = DetectorTrainingTable(samples=1, ohem=True, ohem_nms=1.0)
    Spy(network, GIVEN, table)(batch_of(target([[20, 30, 60, 110]]), target()))
    learnt = torch.add(*seen["latest"]).split(6)
    for candidates, chosen in zip(seen["candidates"], learnt, strict=True):
        assert len(candidates) > 30
        assert not candidates.requires_grad
        assert chosen.tolist() == pytest.approx(candidates.topk(6).values.tolist(), rel=1e-4)


# --- losses


@pytest.mark.parametrize("people", [0, 1, 3])
@pytest.mark.parametrize("cascade", [(), (0.6, 0.7)])
@pytest.mark.parametrize("fields", [{}, {"box_loss": "giou", "box_weight": 10.0}, {"ohem": True}])
def test_losses_are_finite_and_have_gradients_with_and_without_people(people, fields, cascade):
    boxes = [[10, 10, 50, 100], [60, 5, 120, 70], [30, 60, 90, 120]][:people]
    network = small_network(cascade=cascade)
    losses = losses_of(batch_of(target(boxes), target()), network, **fields)
    assert tuple(losses) == NAMES
    loss = torch.stack([part.total / part.count for part in losses.values()]).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert all(
        parameter.grad is not None and torch.isfinite(parameter.grad).all()
        for parameter in network.parameters()
    )
    positive = losses["box"].total.item() > 0
    assert positive == (people > 0)


def test_the_losses_are_torchvisions_own_where_images_have_the_full_number():
    network = small_network(classes=4)
    truth = [([[10, 10, 50, 100], [60, 5, 120, 70]], [1, 3]), ([[30, 60, 90, 120]], [2])]
    batch = batch_of(*(target(boxes, classes=classes) for boxes, classes in truth))
    network.rpn.fg_bg_sampler.batch_size_per_image = 20
    network.roi_heads.fg_bg_sampler.batch_size_per_image = 8
    losses = losses_of(batch, network)

    class OurChoice:
        """Torchvision's sampler, choosing as we do."""

        def __init__(self, sampler, stream):
            self.sampler, self.stream = sampler, stream

        def __call__(self, labels):
            masks = [[], []]
            for of_image, seed in zip(labels, batch.seeds, strict=True):
                chosen = sample_some(
                    of_image,
                    self.sampler.batch_size_per_image,
                    self.sampler.positive_fraction,
                    torch.Generator().manual_seed(seed ^ self.stream),
                )
                for place, wanted in enumerate((of_image > 0, of_image == 0)):
                    mask = torch.zeros(len(of_image), dtype=torch.uint8)
                    mask[chosen] = wanted[chosen].to(torch.uint8)
                    masks[place].append(mask)
            return tuple(masks)

    for part, stream in ((network.rpn, 0), (network.roi_heads, 1)):
        part.fg_bg_sampler = OurChoice(part.fg_bg_sampler, stream)
    # We hand RoIs that count to the choice; without a gap in its matcher, all of them count.
    images = DetectorLosses(network, GIVEN, DetectorTrainingTable(samples=1))._images(batch)
    features = network.backbone(images.tensors)
    labelled = [{"boxes": t.boxes_xyxy, "labels": t.classes} for t in batch.targets]
    proposals, of_rpn = network.rpn(images, features, labelled)
    _, of_heads = network.roi_heads(features, proposals, images.image_sizes, labelled)
    ours = {name: (part.total / part.count).item() for name, part in losses.items()}
    assert ours == pytest.approx(
        {
            "objectness": of_rpn["loss_objectness"].item(),
            "proposal_box": of_rpn["loss_rpn_box_reg"].item(),
            "class": of_heads["loss_classifier"].item(),
            "box": of_heads["loss_box_reg"].item(),
        },
        rel=1e-4,
    )


def test_a_cascade_learns_the_mean_of_what_its_stages_would():
    network = small_network(cascade=(0.6, 0.7))
    seen = []

    class Spy(DetectorLosses):
        def _roi_losses(self, *args):
            seen.append((args, super()._roi_losses(*args)))
            return seen[-1][1]

    network.backbone.eval()
    truth = target([[10, 10, 50, 100], [60, 5, 120, 70]], [[0, 0, 30, 30]])
    module = Spy(network, GIVEN, DetectorTrainingTable(samples=1))
    losses, _ = module(batch_of(truth))
    stages = box_stages(network.roi_heads)
    assert len(seen) == len(stages) == 3
    for name, place in (("class", 0), ("box", 1)):
        means = [of_stage[place].mean().item() for _, of_stage in seen]
        assert losses[name].mean.item() == pytest.approx(sum(means) / 3, rel=1e-5)
    for (before, _), (after, _), iou in zip(seen, seen[1:], (0.6, 0.7), strict=False):
        _, deltas, rois = before[:3]
        boxes = refined(deltas, [rois], [(128, 128)], network.roi_heads.box_coder)[0]
        labels, _ = assign(boxes, truth, Matcher(iou, iou), 0.5)
        torch.testing.assert_close(after[2], boxes[labels >= 0])
        assert torch.equal(after[3], labels[labels >= 0])
        assert not after[2].requires_grad


def test_parts_of_a_batch_add_up_to_the_whole():
    network = small_network()
    one, other = target([[10, 10, 50, 100]]), target([[60, 5, 120, 70]], [[0, 0, 40, 40]])
    whole = batch_of(one, other)
    totals = {name: part.total.item() for name, part in losses_of(whole, network).items()}
    parts = [
        DetectionBatch(whole.pixels[i : i + 1], whole.sizes_hw[i : i + 1], (t,), (whole.seeds[i],))
        for i, t in enumerate((one, other))
    ]
    added = dict.fromkeys(NAMES, 0.0)
    for part in parts:
        losses = losses_of(part, network)
        counts = image_counts(part)
        for name, loss in losses.items():
            added[name] += loss.total.item()
            assert loss.count.item() == counts[name].item() == 1
    assert added == pytest.approx(totals, rel=1e-3)


def test_the_same_batch_has_the_same_losses_whatever_was_drawn_before():
    network, batch = small_network(), batch_of(target([[10, 10, 50, 100]]))
    once = [part.total.item() for part in losses_of(batch, network).values()]
    torch.rand(17)
    assert [part.total.item() for part in losses_of(batch, network).values()] == once


def test_autocast_around_the_losses_does_not_reach_the_box_arithmetic():
    network, batch = small_network(), batch_of(target([[10, 10, 50, 100]]))
    plain = [part.total.item() for part in losses_of(batch, network).values()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [part.total.item() for part in losses_of(batch, network).values()] == plain


def test_giou_worked_by_hand():
    # Half of each is shared: IoU 1/3; the hull is their union, so nothing more.
    # Apart by a gap: IoU 0, hull 10 x 30, of which a third is nobody's.
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    rois = torch.tensor([[0.0, 0, 10, 20], [0, 0, 10, 10], [3, 4, 9, 19]])
    truth = torch.tensor([[0.0, 10, 10, 30], [0, 20, 10, 30], [3, 4, 9, 19]])
    losses = regression_losses(torch.zeros(3, 4), rois, truth, coder, kind="giou")
    assert losses.tolist() == pytest.approx([1 - 1 / 3, 1 + 1 / 3, 0.0], abs=1e-5)
    # Deltas move the box onto its truth: down by half of its height, 5 per unit of size.
    deltas = torch.tensor([[0.0, 5.0, 0, 0]])
    moved = regression_losses(deltas, rois[:1], truth[:1], coder, kind="giou")
    assert moved.item() == pytest.approx(0, abs=1e-5)


def test_smooth_l1_worked_by_hand():
    coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
    rois, truth = torch.tensor([[0.0, 0, 10, 20]]), torch.tensor([[0.0, 10, 10, 30]])
    # Wanted: (0, 10 * 10 / 20, 0, 0) = (0, 5, 0, 0); beyond 1/9 the loss is |d| - 1/18.
    loss = regression_losses(torch.zeros(1, 4), rois, truth, coder, kind="smooth_l1")
    assert loss.item() == pytest.approx(5 - 1 / 18, abs=1e-4)
