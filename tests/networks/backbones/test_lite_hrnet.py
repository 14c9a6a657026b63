"""Naive Lite-HRNet: its shapes, its size, and that every part of it is used."""

from __future__ import annotations

import pytest
import torch
from norms import used
from torch import nn

from posepipe.networks.backbones.build import build_backbone
from posepipe.networks.backbones.lite_hrnet import (
    Exchange,
    ShuffleBlock,
    ShufflePair,
    pair_shuffles,
    shuffle,
)
from posepipe.networks.folding import fold_batch_norms

NAME = "lite_hrnet_wider_naive_18"


@torch.inference_mode()
def test_it_has_features_at_the_four_strides_and_1_3_million_parameters():
    backbone = build_backbone(NAME).eval()
    features = backbone(torch.randn(2, 3, 64, 96))
    assert [tuple(level.shape) for level in features] == [
        (2, 40, 16, 24),
        (2, 40, 8, 12),
        (2, 80, 4, 6),
        (2, 160, 2, 3),
    ]
    assert [level.shape[1] for level in features] == list(backbone.channels)
    convolutions = sum(
        module.weight.numel()
        for module in backbone.modules()
        if isinstance(module, torch.nn.Conv2d)
    )
    # PP-TinyPose's file holds 1,300,177 numbers, 697 of them the head's, with a bias for every
    # convolution's output channel.
    norms = sum(
        module.num_features
        for module in backbone.modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    )
    assert convolutions + norms == 1_300_177 - (40 * 17 + 17)


def test_every_parameter_learns():
    backbone = build_backbone(NAME)
    features = backbone(torch.randn(2, 3, 64, 64))
    sum(level.square().sum() for level in features).backward()
    still = [name for name, part in backbone.named_parameters() if part.grad is None]
    assert still == []


def test_shuffling_takes_the_channels_of_both_halves_in_turn():
    features = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert shuffle(features).flatten().tolist() == [0, 3, 1, 4, 2, 5]
    assert torch.equal(shuffle(torch.randn(0, 4, 3, 2)), torch.zeros(0, 4, 3, 2))
    features = torch.arange(8.0).reshape(1, 8, 1, 1)
    assert shuffle(features, parts=4).flatten().tolist() == [0, 2, 4, 6, 1, 3, 5, 7]


def test_a_shuffle_keeps_the_memory_format() -> None:
    features = torch.randn(2, 6, 5, 4)
    in_channels_last = features.contiguous(memory_format=torch.channels_last)
    for given, kept in (
        (features, torch.contiguous_format),
        (in_channels_last, torch.channels_last),
    ):
        shuffled = shuffle(given)
        assert shuffled.is_contiguous(memory_format=kept)
        assert torch.equal(shuffled, features[:, [0, 3, 1, 4, 2, 5]])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_block_passes_half_of_its_channels_on(memory_format):
    features = torch.randn(2, 8, 5, 3).to(memory_format=memory_format)
    result = ShuffleBlock(8)(features)
    assert torch.equal(result[:, ::2], features[:, :4])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [8, 40])
@torch.inference_mode()
def test_a_pair_gives_what_its_blocks_give(channels, memory_format):
    blocks = used(nn.Sequential(ShuffleBlock(channels), ShuffleBlock(channels)))
    features = torch.randn(2, channels, 5, 3).to(memory_format=memory_format)
    wanted = blocks(features)
    fold_batch_norms(blocks)
    found = ShufflePair(*blocks)(features)
    torch.testing.assert_close(found, wanted)
    assert found.is_contiguous(memory_format=memory_format)


@torch.inference_mode()
def test_all_blocks_become_pairs_and_the_numbers_stay():
    torch.manual_seed(0)
    network, images = used(nn.Sequential(build_backbone(NAME))), torch.randn(2, 3, 64, 96)
    wanted = network(images)
    fold_batch_norms(network)
    pair_shuffles(network)
    for ours, theirs in zip(network(images), wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item())
    kinds = [type(module) for module in network.modules()]
    assert ShuffleBlock not in kinds
    assert kinds.count(ShufflePair) == 2 * 2 + 4 * 3 + 2 * 4  # modules times branches


@torch.inference_mode()
def test_the_first_branch_counts_twice_in_an_exchange_and_the_others_see_its_sum():
    exchange = Exchange((4, 8)).eval()
    first, second = torch.randn(1, 4, 4, 4), torch.randn(1, 8, 2, 2)
    high, low = exchange([first, second])
    (_, up), (down, _) = exchange.paths
    total = 2 * first + up(second)
    assert torch.allclose(high, total.relu())
    assert torch.allclose(low, (2 * down(total) + second).relu(), atol=1e-6)
