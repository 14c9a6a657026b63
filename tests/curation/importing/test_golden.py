"""Imported networks say what both public CPN code bases said, number by number."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from code_bases import (
    GOLDEN,
    Arrays,
    FakeReader,
    images,
    in_memory,
    need_golden,
    tensorflow_arrays,
    with_slots,
)
from torch import nn

from posepipe.core.affine import Affine
from posepipe.core.skeleton import COCO_PERSON
from posepipe.curation.importing.checkpoints import (
    ForeignCheckpoint,
    open_checkpoint,
    tensorflow_checkpoint,
)
from posepipe.curation.importing.model_folder import recognise
from posepipe.curation.importing.source import DECODING, MEAN_RGB, preprocessing, weights_of
from posepipe.pose.crops import crop_to_image
from posepipe.pose.heatmaps import decode, mirror_back
from posepipe.pose.networks.cpn import CPN
from posepipe.zoo.weights import fit_state

TOLERANCE = 1e-4  # of a heatmap's range; measured are 1.5e-6 at most


def imported(checkpoint: ForeignCheckpoint, *, eps: float | None = None, narrow: int = 1):
    """The network with a checkpoint's weights, and the recipe's way to its input."""
    recognised = recognise(checkpoint, input_size_wh=(192, 256), batch_norm_eps=eps)
    network = narrowed(CPN(recognised.network), narrow)
    fit_state(network, weights_of(checkpoint, recognised, network), checkpoint.path)
    return network.eval(), recognised.preprocessing


def narrowed(network: CPN, divisor: int) -> CPN:
    """The same network with fewer channels everywhere but for colours and keypoints."""

    def fewer(channels: int) -> int:
        return channels if channels in (3, 17) else channels // divisor

    for module in list(network.modules()) if divisor > 1 else []:
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                into, out = fewer(child.in_channels), fewer(child.out_channels)
                smaller: nn.Module = nn.Conv2d(
                    into,
                    out,
                    child.kernel_size,
                    child.stride,
                    child.padding,
                    bias=child.bias is not None,
                )
            elif isinstance(child, nn.BatchNorm2d):
                smaller = nn.BatchNorm2d(fewer(child.num_features), eps=child.eps)
            else:
                continue
            setattr(module, name, smaller)
    return network


def heatmaps(network: CPN, given, seed: int, count: int = 2):
    """What a network says about the golden images, which are in its own colour order."""
    pixels = torch.from_numpy(images(seed)[:count]).permute(0, 2, 3, 1)
    if given.colour_order == "bgr":
        pixels = pixels.flip(-1)
    with torch.inference_mode():
        return network.forward_all(given.normalisation(pixels.contiguous()))


def assert_equal(found: torch.Tensor, expected: np.ndarray) -> None:
    span = expected.max() - expected.min()
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() <= TOLERANCE * span


def test_pytorch_cpn_of_the_current_generation(generation_c: Arrays) -> None:
    golden = np.load(GOLDEN / "pytorch_cpn_net" / "cpn50_256x192_seed1.npz")
    network, given = imported(in_memory(generation_c))
    found = heatmaps(network, given, 1)
    assert_equal(found.refined, golden["refine"])
    for level in (2, 3, 4, 5):
        assert_equal(found.levels[level - 2], golden[f"global_C{level}"])


def test_pytorch_cpn_of_the_first_generation(generation_a: Arrays) -> None:
    golden = np.load(GOLDEN / "pytorch_cpn_net" / "cpn50_256x192_generation_a_seed5.npz")
    network, given = imported(in_memory(generation_a))
    assert given.mean == (0, 0, 0)
    # The golden run gave it the later generations' input.
    found = heatmaps(network, msgspec.structs.replace(given, mean=MEAN_RGB), 5)
    assert_equal(found.refined, golden["refine"])
    for level in (2, 5):
        assert_equal(found.levels[level - 2][0], golden[f"global_C{level}_image0"])


@pytest.mark.parametrize("eps", [None, 1e-9])
def test_tf_cpn(eps: float | None, tf_res50: Arrays, tmp_path: Path) -> None:
    golden = np.load(GOLDEN / "tf_cpn_net" / "res50_256x192_seed6.npz")
    reader = FakeReader(with_slots(tf_res50))
    checkpoint = tensorflow_checkpoint(tmp_path / "fake", tmp_path / "fake", reader)
    found = heatmaps(*imported(checkpoint, eps=eps), 6, count=1 if eps else 2)
    if eps is not None:
        assert_equal(found.refined[0].permute(1, 2, 0), golden["refine_eps1e-9_image0"])
        return
    assert_equal(found.refined.permute(0, 2, 3, 1), golden["refine"])
    for level in (2, 3, 4, 5):
        assert_equal(found.levels[level - 2][0].permute(1, 2, 0), golden[f"global_C{level}_image0"])
    assert not [name for name in reader.asked if "Adam" in name or "power" in name]


def assert_reduced_network_fits(checkpoint: ForeignCheckpoint) -> None:
    """The golden network of a sixteenth of the channels, which only a test would build."""
    golden = np.load(GOLDEN / "tf_cpn_net" / "reduced16_res50_256x192_seed106.npz")
    found = heatmaps(*imported(checkpoint, narrow=16), 106)
    assert_equal(found.refined.permute(0, 2, 3, 1), golden["refine"])
    for level in (2, 3, 4, 5):
        assert_equal(
            found.levels[level - 2][0, :, ::2, ::2].permute(1, 2, 0),
            golden[f"global_C{level}_image0_stride2"],
        )


def test_a_reduced_tf_cpn_without_tensorflow(tmp_path: Path) -> None:
    arrays = tensorflow_arrays(
        "reduced16_res50_256x192_seed106", "variables_reduced16_res50.json", 106
    )
    fake = tmp_path / "fake"
    assert_reduced_network_fits(tensorflow_checkpoint(fake, fake, FakeReader(arrays)))


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs tensorflow")
@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_a_checkpoint_that_tensorflow_wrote(ending: str) -> None:
    need_golden()
    prefix = GOLDEN / "tf_cpn_net" / "checkpoint_reduced16" / "snapshot_1.ckpt"
    checkpoint = open_checkpoint(prefix.with_name(prefix.name + ending))
    assert [file.suffix[:6] for file in checkpoint.files] == [".data-", ".index"]
    assert_reduced_network_fits(checkpoint)


@pytest.mark.skipif(find_spec("tensorflow") is None, reason="needs tensorflow")
def test_a_checkpoint_of_tensorflows_first_format(tmp_path: Path) -> None:
    import tensorflow as tf

    arrays = with_slots(
        tensorflow_arrays("reduced16_res50_256x192_seed106", "variables_reduced16_res50.json", 106)
    )
    file = tmp_path / "snapshot_7.ckpt"
    tf.raw_ops.Save(
        filename=str(file),
        tensor_names=list(arrays),
        data=[tf.constant(array) for array in arrays.values()],
    )
    checkpoint = open_checkpoint(file)
    assert checkpoint.files == (file,)
    assert_reduced_network_fits(checkpoint)


def test_keypoints_and_scores_are_those_of_both_code_bases() -> None:
    need_golden()
    inputs = np.load(GOLDEN / "decode" / "inputs_256x192.npz")
    expected = np.load(GOLDEN / "decode" / "expected_256x192.npz")
    plain, mirrored = torch.from_numpy(inputs["maps_x4"].astype(np.float32) / 4)
    found = decode((plain + mirror_back(mirrored, COCO_PERSON.mirrored)) / 2, DECODING)
    table = preprocessing((192, 256))
    in_image = np.stack(
        [
            crop_to_image(Affine.from_box(window, table.input_size_wh), table).apply(points)
            for window, points in zip(inputs["crop"], found.points_xy.numpy(), strict=True)
        ]
    )
    # A search that was won by less than float32's rounding may end elsewhere.
    certain = (expected["first_margin"] >= 1e-5) & (expected["second_margin"] >= 1e-5)
    assert certain.sum() > 600
    assert np.abs(in_image - expected["xy"])[certain].max() < 0.01
    assert np.abs(found.confidences.numpy() - expected["conf"])[certain].max() < 1e-4
    whole = certain.all(axis=1)
    scores = inputs["box_score"] * found.confidences.double().numpy().mean(axis=1)
    assert whole.sum() > 10
    assert np.abs(scores - expected["score"])[whole].max() < 1e-4
