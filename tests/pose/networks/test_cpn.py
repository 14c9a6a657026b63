"""The whole network: every variant of the recipe, and the paper's size and cost."""

from __future__ import annotations

import itertools

import msgspec
import pytest
import torch
from norms import used
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from posepipe.errors import RecipeError
from posepipe.networks.folding import fold_batch_norms
from posepipe.pose.networks.cpn import CPN, CPNTable, GlobalNetOnly, GlobalNetTable
from posepipe.pose.networks.quicken import enlarge_last
from posepipe.zoo.recipe import Recipe

SMALL = CPNTable(backbone="mobilenet_v2", channels=16)
VARIANTS = list(
    itertools.product(
        ["identity", "projection"],
        ["batch_norm", "bias"],
        ["half_pixel", "align_corners", "tf1"],
        ["C2-C5", "C5-C2"],
    )
)


@pytest.mark.parametrize(
    ("shortcut", "merge", "upsampling", "concat_order"),
    VARIANTS[::5],  # every value is among them
)
def test_every_variant_gives_a_heatmap_of_stride_four_per_keypoint(
    shortcut, merge, upsampling, concat_order
):
    table = msgspec.structs.replace(
        SMALL, shortcut=shortcut, merge=merge, upsampling=upsampling, concat_order=concat_order
    )
    with torch.inference_mode():
        heatmaps = CPN(table).eval().forward_all(torch.randn(1, 3, 64, 96))
    assert heatmaps.refined.shape == (1, 17, 16, 24)
    assert [tuple(maps.shape) for maps in heatmaps.levels] == [(1, 17, 16, 24)] * 4


@torch.inference_mode()
def test_test_time_gives_what_training_calls_refined():
    network = CPN(SMALL).eval()
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(network(images), network.forward_all(images).refined)


@torch.inference_mode()
def test_a_crop_alone_and_among_others_gives_the_same_heatmaps():
    network = CPN(SMALL).eval()
    images = torch.randn(5, 3, 64, 64)
    together = network(images)
    for n in range(5):
        assert torch.allclose(network(images[n : n + 1])[0], together[n], atol=1e-5)


@torch.inference_mode()
def test_no_crops_give_no_heatmaps():
    assert CPN(SMALL).eval()(torch.zeros(0, 3, 64, 64)).shape == (0, 17, 16, 16)


def test_the_recipes_batch_normalisation_is_that_of_every_part_the_backbone_too():
    network = CPN(msgspec.structs.replace(SMALL, batch_norm_eps=1.001e-5, batch_norm_momentum=0.01))
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    assert any(norm in set(network.backbone.modules()) for norm in norms)
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1.001e-5, 0.01)}


def test_every_weight_takes_part_in_training():
    network = CPN(SMALL)
    heatmaps = network.forward_all(torch.randn(2, 3, 64, 64))
    (
        heatmaps.refined.square().sum() + sum(maps.square().sum() for maps in heatmaps.levels)
    ).backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("bottlenecks", [(0,), (0, 1), (2, 0, 1), (0, 0, 0, 0)])
def test_refinenet_uses_as_many_levels_as_have_a_number_of_bottlenecks(bottlenecks):
    network = CPN(msgspec.structs.replace(SMALL, refine_bottlenecks=bottlenecks)).eval()
    assert [len(level) for level in network.refinenet.levels] == list(bottlenecks)
    with torch.inference_mode():
        heatmaps = network.forward_all(torch.randn(1, 3, 64, 64))
    assert heatmaps.refined.shape == (1, 17, 16, 16)
    assert len(heatmaps.levels) == 4


def multiply_adds(network: nn.Module) -> int:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 64, 96))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("shortcut", "merge", "upsampling", "concat_order"),
    VARIANTS[::5],  # every value is among them
)
@torch.inference_mode()
def test_enlarging_last_gives_the_same_numbers(shortcut, merge, upsampling, concat_order, folded):
    torch.manual_seed(0)
    table = msgspec.structs.replace(
        SMALL, shortcut=shortcut, merge=merge, upsampling=upsampling, concat_order=concat_order
    )
    network, images = used(CPN(table)), torch.randn(2, 3, 64, 96)
    wanted = network.forward_all(images)
    if folded:
        fold_batch_norms(network)
    enlarge_last(network)
    found = network.forward_all(images)
    for ours, theirs in zip(
        [found.refined, *found.levels], [wanted.refined, *wanted.levels], strict=True
    ):
        assert torch.allclose(ours, theirs, atol=1e-4 * theirs.abs().max().item())


@pytest.mark.parametrize("bottlenecks", [(0,), (1, 2), (0, 0, 0, 0)])
@torch.inference_mode()
def test_enlarging_last_works_with_any_number_of_levels(bottlenecks):
    table = msgspec.structs.replace(SMALL, refine_bottlenecks=bottlenecks, shortcut="identity")
    network, images = used(CPN(table)), torch.randn(2, 3, 64, 64)
    wanted = network(images)
    enlarge_last(network)
    assert torch.allclose(network(images), wanted, atol=1e-4 * wanted.abs().max().item())


def test_enlarging_last_leaves_out_what_convolving_enlarged_features_takes():
    network = used(CPN(SMALL))
    before = multiply_adds(network)
    enlarge_last(network)
    channels, cells = 16, [16 * 24 // 4**level for level in range(4)]
    merges = sum(channels**2 * (cells[i] - cells[i + 1]) for i in range(3))
    final = sum(channels * (channels // 2 + channels) * (cells[0] - few) for few in cells)
    assert before - multiply_adds(network) == merges + final


@torch.inference_mode()
def test_globalnet_alone_ends_with_p2_and_refines_nothing():
    table = GlobalNetTable(backbone="mobilenet_v2", channels=16)
    network, images = GlobalNetOnly(table).eval(), torch.randn(2, 3, 64, 64)
    heatmaps = network.forward_all(images)
    assert heatmaps.refined is None
    assert len(heatmaps.levels) == 4
    assert torch.equal(network(images), heatmaps.levels[0])


@torch.inference_mode()
def test_globalnets_weights_are_a_part_of_a_cpns():
    whole = CPN(SMALL).eval()
    alone = GlobalNetOnly(GlobalNetTable(backbone="mobilenet_v2", channels=16)).eval()
    left_out = alone.load_state_dict(whole.state_dict(), strict=False)
    assert left_out.missing_keys == []
    assert all(key.startswith("refinenet.") for key in left_out.unexpected_keys)
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(alone(images), whole.forward_all(images).levels[0])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shortcut", "none"),
        ("merge", "layer_norm"),
        ("upsampling", "nearest"),
        ("concat_order", "C3-C5"),
        ("refine_bottlenecks", []),
        ("refine_bottlenecks", [0, 1, 2, 3, 4]),
        ("refine_bottlenecks", [0, -1]),
        ("stages", 8),
    ],
)
def test_a_structure_that_does_not_exist_is_an_error_of_the_recipe(field, value, tmp_path):
    recipe = Recipe("odd", tmp_path, {"network": {"backbone": "resnet50", field: value}})
    with pytest.raises(RecipeError, match=rf"\[network\].*{field}"):
        recipe.table("network", CPNTable)
