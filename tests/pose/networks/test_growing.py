"""A CPN that begins as a plain network on its backbone: the same heatmaps, and able to learn."""

from __future__ import annotations

import pytest
import torch

from posepipe.errors import RecipeError, WeightsError
from posepipe.pose.networks.cpn import CPN, CPNTable
from posepipe.pose.networks.growing import grow
from posepipe.pose.networks.plain import PlainHeatmaps, PlainTable

BACKBONE = "lite_hrnet_wider_naive_18"


@pytest.fixture(scope="module")
def seed() -> PlainHeatmaps:
    torch.manual_seed(0)
    network = PlainHeatmaps(PlainTable(backbone=BACKBONE)).train()
    with torch.no_grad():  # a few batches give every batch normalisation statistics that fit
        for _ in range(3):
            network(torch.randn(2, 3, 64, 64))
    return network.eval()


def grown(seed: PlainHeatmaps, **fields: object) -> CPN:
    network = CPN(CPNTable(backbone=BACKBONE, **{"channels": 48, **fields})).eval()
    grow(network, seed)
    return network


@torch.inference_mode()
def test_no_crops_give_no_heatmaps(seed: PlainHeatmaps) -> None:
    assert seed(torch.zeros(0, 3, 64, 64)).shape == (0, 17, 16, 16)


@torch.inference_mode()
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"channels": 40, "merge": "bias", "shortcut": "identity"},
        {"concat_order": "C2-C5", "refine_bottlenecks": (1, 1)},
        {"refine_bottlenecks": (0,)},
    ],
)
def test_it_predicts_what_the_other_one_predicts(
    seed: PlainHeatmaps, fields: dict[str, object]
) -> None:
    images = torch.randn(2, 3, 64, 96)
    expected, predicted = seed(images), grown(seed, **fields).forward_all(images)
    assert torch.allclose(predicted.refined, expected, atol=1e-4 * expected.abs().max().item())
    assert torch.allclose(predicted.levels[0], expected, atol=1e-4 * expected.abs().max().item())
    assert not any(level.any() for level in predicted.levels[1:])


def test_what_is_new_learns(seed: PlainHeatmaps) -> None:
    network = grown(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    before = {name: part.clone() for name, part in network.named_parameters()}
    for _ in range(3):  # behind a factor of zero a part only learns once the factor has
        predicted = network.forward_all(torch.randn(1, 3, 64, 64))
        loss = sum((maps - 1).square().mean() for maps in (*predicted.levels, predicted.refined))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    after = dict(network.named_parameters())
    assert [name for name, part in before.items() if torch.equal(part, after[name])] == []


@torch.inference_mode()
def test_with_other_keypoints_it_predicts_nothing_at_first(seed: PlainHeatmaps) -> None:
    network = grown(seed, keypoints=5)
    assert not network(torch.randn(1, 3, 64, 64)).any()
    for ours, theirs in zip(network.backbone.parameters(), seed.backbone.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_pyramid_too_narrow_and_another_backbone_are_refused(seed: PlainHeatmaps) -> None:
    with pytest.raises(RecipeError, match=r"network.channels is 32.* 40 channels"):
        grown(seed, channels=32)
    with pytest.raises(WeightsError, match="has another backbone"):
        grow(CPN(CPNTable(backbone="mobilenet_v2", channels=48)), seed)
