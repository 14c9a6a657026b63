"""CPN's losses: worked by hand on three keypoints.

Worked by hand on maps of one cell: at stride 1 a keypoint at (0, 0) has the target 1, so a map
that is off by d has the loss d².
"""

from __future__ import annotations

import msgspec
import pytest
import torch
from losses_by_hand import (
    ANCESTORS,
    SIGMAS,
    Crops,
    crops,
    losses_of,
    off_by,
    random_case,
    refine_loss,
    touched,
)

from posepipe.errors import RecipeError
from posepipe.pose.heatmaps import encode, encode_blurred_cell
from posepipe.pose.networks.outputs import TrainingHeatmaps
from posepipe.training.pose.losses import (
    Part,
    PoseLossTable,
    check_loss,
    pose_loss,
    pose_loss_counts,
)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"levels": "l2*", "divide_by": "hardest", "localisation": 1.0},
        {"levels": "none", "refine": "l2"},
    ],
)
@pytest.mark.parametrize("people", [0, 2])
def test_where_nobody_annotated_anything_there_is_no_loss_and_no_gradient(people, fields):
    heatmaps, _ = random_case(0, people=people)
    nothing = torch.zeros(people, 17)
    unknown = torch.full((people, 17, 2), torch.nan)
    losses, mined = pose_loss(
        heatmaps,
        Crops(unknown, nothing, nothing.long()),
        PoseLossTable(**fields),
        stride=4,
        amplitude=1,
    )
    assert {name: part.mean.item() for name, part in losses.items()} == dict.fromkeys(losses, 0.0)
    assert mined.tolist() == [0] * 17
    torch.stack([part.mean for part in losses.values()]).sum().backward()
    assert not touched(heatmaps.refined).any()
    assert heatmaps.refined.grad.isfinite().all()


@pytest.mark.parametrize(
    ("levels", "refine", "expected"),
    [
        # Table 7, M = 2: level losses 4, 1, 0 and 16, 1, 1; RefineNet's 9, 1, 4.
        ("none", "l2", {"refine": 14 / 3}),
        ("l2", "l2", {"global": (5 / 3 + 18 / 3) / 2, "refine": 14 / 3}),
        ("none", "l2*", {"refine": 13 / 2}),
        ("l2", "l2*", {"global": (5 / 3 + 18 / 3) / 2, "refine": 13 / 2}),
        ("l2*", "l2*", {"global": (5 / 2 + 17 / 2) / 2, "refine": 13 / 2}),
    ],
)
def test_every_row_of_table_7_by_hand(levels, refine, expected):
    predicted = [off_by([2, 1, 0]), off_by([4, 1, 1])]
    labels = crops([[1.0, 1.0, 1.0]])
    losses, _ = losses_of(
        predicted, off_by([3, 1, 2]), labels, levels=levels, refine=refine, hardest=2
    )
    assert {name: part.mean.item() for name, part in losses.items()} == pytest.approx(expected)


def test_globalnet_alone_has_its_own_loss_and_mines_nothing():
    losses, mined = losses_of([off_by([2, 1, 0])], None, crops([[1.0, 1.0, 0.0]]))
    assert {name: part.mean.item() for name, part in losses.items()} == {"global": 2.5}
    assert mined.tolist() == [0, 0, 0]


def test_factors_of_the_recipe_are_in_the_sums():
    labels = crops([[1.0, 1.0, 1.0]])
    given = ([off_by([2, 1, 0])], off_by([3, 1, 2]), labels)
    losses, _ = losses_of(*given, hardest=2, scale=10, levels_weight=0.5)
    assert losses["global"].total.item() == pytest.approx(10 * 0.5 * 5)
    assert losses["refine"].total.item() == pytest.approx(10 * 13)
    assert [part.count.item() for part in losses.values()] == [3, 2]


def test_the_ancestors_divide_by_m_however_few_are_annotated():
    labels = crops([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    off = off_by([3, 1, 2], [5, 2, 5], [5, 5, 5])
    found = refine_loss(off, labels, hardest=2, divide_by="hardest")
    assert found == pytest.approx((9 + 4 + 4) / (3 * 2))
    unmined = refine_loss(off, labels, refine="l2", divide_by="hardest")
    assert unmined == pytest.approx((9 + 1 + 4 + 4) / (3 * 3))


@pytest.mark.parametrize(
    ("fields", "expected", "count"),
    [
        # Maps of 3, 0.5 and 2 for keypoints that are seen, occluded and not labelled.
        ({}, (3 - 1) ** 2 + (0.5 - 1) ** 2, 2),
        ({"occluded_levels": "zero"}, (3 - 1) ** 2 + 0.5**2, 2),
        ({"occluded_levels": "ignore"}, (3 - 1) ** 2, 1),
        ({"unlabelled_levels": "zero"}, (3 - 1) ** 2 + (0.5 - 1) ** 2 + 2**2, 3),
        (ANCESTORS, (3 - 1) ** 2 + 0.5**2 + 2**2, 3),
    ],
)
def test_occluded_and_unlabelled_keypoints_of_globalnet_by_hand(fields, expected, count):
    maps = torch.tensor([[3.0, 0.5, 2.0]])[..., None, None]
    labels = crops([[1.0, 1.0, 0.0]], visibility=[[2, 1, 0]])
    losses, _ = losses_of([maps], maps, labels, hardest=3, **fields)
    assert losses["global"].total.item() == pytest.approx(expected)
    assert losses["global"].count.item() == count
    # RefineNet learns where occluded keypoints are, with every setting.
    assert losses["refine"].total.item() == pytest.approx((3 - 1) ** 2 + (0.5 - 1) ** 2)


def test_a_labelled_keypoint_of_no_weight_does_not_become_an_empty_map():
    labels = crops([[1.0, 0.0, 0.0]], visibility=[[2, 2, 0]])
    losses, _ = losses_of([off_by([0, 0, 1])], off_by([0, 0, 0]), labels, unlabelled_levels="zero")
    assert losses["global"].count.item() == 2


@torch.no_grad()
def ancestors_loss(heatmaps, labels, kernels, refine_kernel, levels_factor):
    """The public CPN code bases' loss, keypoint by keypoint from its description."""
    people, keypoints = labels.weights.shape
    shape_hw = heatmaps.refined.shape[-2:]

    def target(kernel):
        return encode_blurred_cell(
            labels.points_xy, shape_hw, stride=4, kernel=kernel, amplitude=255.0
        )

    total = 0.0
    for maps, kernel in zip(heatmaps.levels, kernels, strict=True):
        wanted, squares = target(kernel), 0.0
        for b in range(people):
            for k in range(keypoints):
                seen = labels.visibility[b, k] == 2
                squares += float((maps[b, k] - (wanted[b, k] if seen else 0)).square().sum())
        total += levels_factor * squares / maps.numel()
    wanted = target(refine_kernel)
    for b in range(people):
        errors = [
            float((heatmaps.refined[b, k] - wanted[b, k]).square().mean())
            for k in range(keypoints)
            if labels.visibility[b, k] > 0
        ]
        total += sum(sorted(errors)[::-1][:8]) / 8 / people
    return total


@pytest.mark.parametrize(
    ("kernels", "levels_weight", "levels_factor"),
    [
        ((7, 9, 11, 15), 2.0, 1 / 2),  # pytorch-cpn: refine + (sum of 4 MSE) / 2
        ((15, 11, 9, 7), 0.5, 1 / 4 / 2),  # tf-cpn: refine + (sum of 4 MSE) / 4 / 2
    ],
)
def test_the_ancestors_loss_is_a_recipes_setting(kernels, levels_weight, levels_factor):
    heatmaps, labels = random_case(1, shape_hw=(16, 12), share=0.5)
    labels = Crops(labels.points_xy, labels.visibility.gt(0).float(), labels.visibility)
    table = PoseLossTable(
        target="blurred_cell",
        kernels=kernels,
        refine_kernel=7,
        levels_weight=levels_weight,
        **ANCESTORS,
    )
    losses, _ = pose_loss(heatmaps, labels, table, stride=4, amplitude=255.0)
    found = sum(part.mean.item() for part in losses.values())
    expected = ancestors_loss(heatmaps, labels, kernels, 7, levels_factor)
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "fields",
    [
        {"localisation": 0.15, "scale": 100.0},
        {"levels": "l2*", "hardest": 6},
        {"levels": "none", "refine": "l2"},
        ANCESTORS,
    ],
)
def test_sums_and_counts_of_parts_add_up_to_those_of_the_whole_batch(fields):
    heatmaps, labels = random_case(3, people=5)
    table = PoseLossTable(**fields)

    def part(start, stop):
        return pose_loss(
            TrainingHeatmaps(
                [maps[start:stop] for maps in heatmaps.levels], heatmaps.refined[start:stop]
            ),
            Crops(
                labels.points_xy[start:stop],
                labels.weights[start:stop],
                labels.visibility[start:stop],
            ),
            table,
            stride=4,
            amplitude=1,
        )

    whole, mined = part(0, 5)
    ahead = pose_loss_counts(labels, table, levels=4, refined=True)
    assert ahead == {name: each.count for name, each in whole.items()}
    parts = [part(0, 1), part(1, 5)]
    assert mined.equal(sum(counts for _, counts in parts))
    for name, expected in whole.items():
        added = [losses[name] for losses, _ in parts]
        assert sum(each.total.item() for each in added) == pytest.approx(expected.total.item())
        assert sum(each.count.item() for each in added) == expected.count.item()
        assert not expected.count.requires_grad


def test_a_part_that_counted_nothing_has_a_mean_of_zero():
    assert Part(torch.tensor(0.0), torch.tensor(0.0)).mean.item() == 0


def test_perfect_heatmaps_have_no_loss_each_level_having_a_gaussian_of_its_own():
    _, labels = random_case(0)

    def perfect(sigma):
        return encode(labels.points_xy, (8, 6), stride=4, sigma=sigma, amplitude=2)

    def means(levels, refined, **fields):
        table = PoseLossTable(**fields)
        losses, _ = pose_loss(
            TrainingHeatmaps(levels, refined), labels, table, stride=4, amplitude=2
        )
        return [losses[name].mean.item() for name in ("global", "refine")]

    levels = [perfect(sigma) for sigma in SIGMAS]
    assert means(levels, perfect(1.4)) == [0, 0]
    assert means(levels[::-1], perfect(1.4))[0] > 0
    assert means(levels, perfect(3.0), refine_sigma=3.0) == [0, 0]
    assert means([perfect(2.0)] * 4, perfect(2.0), sigmas=(2.0,)) == [0, 0]


@pytest.mark.parametrize(("stride", "shape_hw"), [(2, (16, 12)), (8, (4, 3)), (32, (1, 1))])
def test_heatmaps_of_other_strides_are_compared_at_their_own_size(stride, shape_hw):
    _, labels = random_case(0)
    maps = encode(labels.points_xy, shape_hw, stride=stride, sigma=1.4, amplitude=1)
    losses, _ = losses_of([maps] * 7, maps, labels, stride=stride, sigmas=(1.4,))
    assert [part.mean.item() for part in losses.values()] == [0, 0]


def test_under_bf16_autocast_the_losses_of_bf16_heatmaps_are_computed_in_fp32():
    heatmaps, labels = random_case(0)
    halved = TrainingHeatmaps(
        [maps.bfloat16() for maps in heatmaps.levels], heatmaps.refined.bfloat16()
    )
    widened = TrainingHeatmaps([maps.float() for maps in halved.levels], halved.refined.float())
    table = PoseLossTable(localisation=1.0)
    expected, _ = pose_loss(widened, labels, table, stride=4, amplitude=1)
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = pose_loss(halved, labels, table, stride=4, amplitude=1)
    for name, part in expected.items():
        assert found[name].total.dtype == torch.float32
        assert found[name].total.item() == part.total.item()


def test_the_localisation_loss_by_hand():
    # Two cells, the keypoint in the first with hardly any width: the target is (1, 0). The map
    # says (1, 0) and the sharpness is log 3, so the first cell's share is 3/4.
    maps = torch.tensor([[[[1.0, 0.0]]]])
    three = torch.tensor(3.0).log().item()
    losses, _ = losses_of(
        [maps, maps], maps, crops([[0.5]]), sigmas=(0.1,), localisation=2.0, sharpness=three
    )
    expected = -torch.tensor(0.75).log().item()
    assert losses["localisation"].total.item() == pytest.approx(2.0 * 3 * 0.5 * expected)
    assert losses["localisation"].count.item() == 1


def test_the_localisation_loss_does_not_depend_on_the_amplitude():
    heatmaps, labels = random_case(0)
    table = PoseLossTable(localisation=1.0)
    larger = TrainingHeatmaps([255 * maps for maps in heatmaps.levels], 255 * heatmaps.refined)
    small, _ = pose_loss(heatmaps, labels, table, stride=4, amplitude=1)
    large, _ = pose_loss(larger, labels, table, stride=4, amplitude=255)
    expected = small["localisation"].mean.item()
    assert large["localisation"].mean.item() == pytest.approx(expected, rel=1e-4)


def test_levels_without_a_loss_have_no_localisation_loss_either():
    heatmaps, labels = random_case(0)
    table = PoseLossTable(levels="none", localisation=1.0)
    losses, _ = pose_loss(heatmaps, labels, table, stride=4, amplitude=1)
    losses["localisation"].mean.backward()
    assert heatmaps.levels[0].grad is None
    assert touched(heatmaps.refined).equal(labels.weights.gt(0))


def test_levels_are_not_told_the_place_of_keypoints_that_they_are_to_ignore():
    heatmaps, labels = random_case(0)
    table = PoseLossTable(occluded_levels="ignore", localisation=1.0)
    losses, _ = pose_loss(heatmaps, labels, table, stride=4, amplitude=1)
    losses["localisation"].mean.backward()
    assert touched(heatmaps.levels[0]).equal(labels.visibility.eq(2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hardest": 0}, "hardest must be at least 1, got 0"),
        ({"levels": "none", "refine": "none"}, "nothing would be learnt"),
        ({"levels": "L2"}, "Invalid enum value 'L2'"),
        ({"sigmas": []}, "sigmas must be one or more positive numbers"),
        ({"sigmas": [1.4, -1]}, "sigmas must be one or more positive numbers"),
        ({"target": "blurred_cell"}, "kernels go together"),
        ({"kernels": [7]}, "kernels go together"),
        ({"target": "blurred_cell", "kernels": [8]}, "must be odd"),
        ({"localisation": -1}, "must be 0 or more"),
        ({"m": 8}, "unknown field `m`"),
    ],
)
def test_a_table_that_contradicts_itself_is_an_error(fields, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(fields, PoseLossTable)


@pytest.mark.parametrize(
    ("fields", "levels", "refined", "message"),
    [
        ({"sigmas": (1.4, 2.0)}, 4, True, "sigmas has 2 numbers, but the network has 4"),
        ({}, 7, True, "sigmas has 4 numbers, but the network has 7"),
        ({"target": "blurred_cell", "kernels": (7, 9)}, 4, True, "kernels has 2 numbers"),
        ({}, 4, False, "refine is 'l2*', but the network has no RefineNet"),
        ({"refine": "none"}, 4, True, 'refine is "none", but the network has a final prediction'),
        ({"refine": "none"}, 0, False, "predicts nothing to learn from"),
    ],
)
def test_a_table_that_does_not_fit_the_network_is_an_error(fields, levels, refined, message):
    with pytest.raises(RecipeError) as error:
        check_loss(PoseLossTable(**fields), levels=levels, refined=refined)
    assert str(error.value).startswith("[training.loss]: ")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("fields", "levels", "refined"),
    [
        ({}, 4, True),
        ({}, 0, True),  # a dilated network: the first sigma serves the only prediction
        ({"levels": "none"}, 7, True),
        ({"refine": "none"}, 4, False),
        ({"sigmas": (2.0,)}, 7, True),
        ({"target": "blurred_cell", "kernels": (7, 9, 11, 15)}, 4, True),
    ],
)
def test_tables_that_fit_are_accepted(fields, levels, refined):
    check_loss(PoseLossTable(**fields), levels=levels, refined=refined)
