"""Every key of a checkpoint is checked, and the first that does not fit is named."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from code_bases import Arrays, FakeReader, in_memory, with_slots

from posepipe.curation.importing import pytorch_cpn, tf_cpn
from posepipe.curation.importing.checkpoints import ForeignCheckpoint, tensorflow_checkpoint
from posepipe.curation.importing.model_folder import recognise
from posepipe.curation.importing.source import weights_of
from posepipe.errors import WeightsError
from posepipe.pose.networks.cpn import CPN, CPNTable

SIZE = (192, 256)
PREDICT = "module.refine_net.final_predict.1.weight"


@pytest.fixture(scope="module")
def arrays(network: CPN) -> Arrays:
    """A pytorch-cpn checkpoint of generation (c) with random numbers and no counters."""
    names = pytorch_cpn.recognise(["module.global_net."], input_size_wh=SIZE)
    assert names is not None
    return {
        names.name_of(key): tensor.numpy()
        for key, tensor in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }


def weights(checkpoint: ForeignCheckpoint, network: CPN):
    recognised = recognise(checkpoint, input_size_wh=SIZE)
    return weights_of(checkpoint, recognised, network)


def error_of(checkpoint: ForeignCheckpoint, network: CPN) -> str:
    with pytest.raises(WeightsError) as caught:
        weights(checkpoint, network)
    return str(caught.value)


# --- recognising


def test_a_file_without_weights_is_of_neither_code_base() -> None:
    with pytest.raises(WeightsError, match="it holds no weights"):
        recognise(in_memory({}), input_size_wh=SIZE)


def test_weights_of_another_program_are_named_by_their_first_key() -> None:
    foreign = {"backbone.conv1.weight": np.zeros(3), "keypoint_head.bias": np.zeros(3)}
    with pytest.raises(WeightsError, match=r"its first key is 'backbone\.conv1\.weight'"):
        recognise(in_memory(foreign), input_size_wh=SIZE)
    checkpoint = tensorflow_checkpoint(
        Path("x"), Path("x"), FakeReader({"dense/kernel": np.ones(1)})
    )
    with pytest.raises(WeightsError, match="its first key is 'dense/kernel'"):
        recognise(checkpoint, input_size_wh=SIZE)


@pytest.mark.parametrize(("blocks", "depth"), [(6, 50), (23, 101), (36, 152)])
def test_the_backbones_depth_is_counted(blocks: int, depth: int) -> None:
    torch_names = [f"resnet.layer3.{i}.conv1.weight" for i in range(blocks)]
    found = pytorch_cpn.recognise([*torch_names, "global_net.x"], input_size_wh=SIZE)
    assert found is not None
    assert found.network.backbone == f"resnet{depth}"
    scope = f"resnet_v1_{depth}/block3/unit_"
    tf_names = [f"{scope}{i + 1}/bottleneck_v1/conv1/weights" for i in range(blocks)]
    found = tf_cpn.recognise([*tf_names, "pyramid/res2/weights"], input_size_wh=SIZE)
    assert found is not None
    assert found.network.backbone == f"resnet{depth}"


@pytest.mark.parametrize(
    ("extra", "generation", "bottlenecks", "mean", "fill"),
    [
        ([], "c", (0, 1, 2, 3), (122.7717, 115.9465, 102.9801), (123, 116, 103)),
        (["global_net.upsamples.0.1.bias"], "b", (0, 1, 2, 3), (0, 0, 0), (0, 0, 0)),
        (
            ["global_net.upsamples.0.1.bias", "refine_net.cascade.3.0.conv1.weight"],
            "a",
            (3, 2, 1, 0),
            (0, 0, 0),
            (0, 0, 0),
        ),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_three_generations_of_pytorch_cpn(
    prefix, extra, generation, bottlenecks, mean, fill
) -> None:
    names = [prefix + name for name in ("resnet.conv1.weight", "refine_net.x", *extra)]
    found = pytorch_cpn.recognise(names, input_size_wh=(288, 384))
    assert found is not None
    assert found.code_base == f"pytorch-cpn, generation ({generation})"
    assert any(f"generation ({generation})" in reason for reason in found.because)
    assert found.network == CPNTable(
        backbone="resnet50",
        refine_bottlenecks=bottlenecks,
        shortcut="projection",
        upsampling="align_corners",
        concat_order="C5-C2",
    )
    given = found.preprocessing
    assert (given.input_size_wh, given.mean, given.fill) == ((288, 384), mean, fill)
    assert given.colour_order == "rgb"


def test_tf_cpns_own_settings() -> None:
    found = tf_cpn.recognise(["resnet_v1_50/conv1/weights", "merge/x"], input_size_wh=SIZE)
    assert found is not None
    assert found.network == CPNTable(
        backbone="resnet50",
        shortcut="identity",
        merge="bias",
        upsampling="tf1",
        concat_order="C2-C5",
        batch_norm_eps=1.001e-5,
        batch_norm_momentum=0.01,
    )
    assert found.preprocessing.colour_order == "bgr"
    assert found.preprocessing.mean == (102.9801, 115.9465, 122.7717)
    assert found.preprocessing.fill == (123, 116, 103)  # RGB, whatever the network's order


# --- checking


def test_weights_that_fit_are_all_taken(arrays: Arrays, network: CPN) -> None:
    state = weights(in_memory(arrays), network)
    wanted = {k: v for k, v in network.state_dict().items() if "num_batches" not in k}
    assert state.keys() == wanted.keys()
    assert all((state[key] == wanted[key]).all() for key in wanted)


def test_counters_and_a_missing_prefix_are_fine(arrays: Arrays, network: CPN) -> None:
    plain = {name.removeprefix("module."): array for name, array in arrays.items()}
    counted = {**plain, "resnet.bn1.num_batches_tracked": np.array(7)}
    assert len(weights(in_memory(counted), network)) == len(arrays)


def test_a_missing_key_is_named(arrays: Arrays, network: CPN) -> None:
    less = {name: array for name, array in arrays.items() if name != PREDICT}
    assert error_of(in_memory(less), network) == (
        "checkpoint.pth.tar looks like pytorch-cpn, generation (c) but is of another network: "
        f"it has no {PREDICT!r}"
    )


def test_an_unknown_key_is_named(arrays: Arrays, network: CPN) -> None:
    more = {**arrays, "module.extra.weight": np.zeros(3), "module.more": np.zeros(3)}
    assert error_of(in_memory(more), network).endswith("'module.extra.weight' is unknown to it")


def test_a_key_of_another_shape_is_named(arrays: Arrays, network: CPN) -> None:
    other = {**arrays, PREDICT: np.zeros((14, 256, 3, 3))}
    assert error_of(in_memory(other), network).endswith(
        f"{PREDICT!r} has shape (14, 256, 3, 3), (17, 256, 3, 3) is needed"
    )


def test_numbers_that_are_not_finite_are_named(arrays: Arrays, network: CPN) -> None:
    broken = arrays[PREDICT].copy()
    broken[3, 0, 0, 0] = math.nan
    message = error_of(in_memory({**arrays, PREDICT: broken}), network)
    assert message.startswith(f"checkpoint.pth.tar: {PREDICT!r} has numbers that are not finite")


def test_a_bias_before_a_normalisation_goes_into_its_mean(arrays: Arrays, network: CPN) -> None:
    biases = {
        f"module.global_net.upsamples.{i}.1.bias": np.full(256, i + 1, np.float32) for i in range(3)
    }
    state = weights(in_memory({**arrays, **biases}), network)
    for i in range(3):
        key = f"globalnet.merges.{2 - i}.1.running_mean"
        assert (state[key] == network.state_dict()[key] - (i + 1)).all()
    del biases["module.global_net.upsamples.1.1.bias"]
    message = error_of(in_memory({**arrays, **biases}), network)
    assert message.endswith("it has no 'module.global_net.upsamples.1.1.bias'")


def test_half_precision_weights_become_whole(arrays: Arrays, network: CPN) -> None:
    half = {**arrays, PREDICT: arrays[PREDICT].astype(np.float16)}
    state = weights(in_memory(half), network)
    assert {str(tensor.dtype) for tensor in state.values()} == {"torch.float32"}


def test_an_optimizers_numbers_are_no_weights(tmp_path: Path) -> None:
    found = tf_cpn.recognise(["resnet_v1_50/conv1/weights", "merge/x"], input_size_wh=SIZE)
    assert found is not None
    network = CPN(found.network)
    plain = {}
    for key, tensor in network.state_dict().items():
        if not key.endswith("num_batches_tracked"):
            order = (2, 3, 1, 0) if tensor.ndim == 4 else range(tensor.ndim)
            plain[found.name_of(key)] = tensor.numpy().transpose(tuple(order))
    reader = FakeReader(with_slots(plain))
    state = weights(tensorflow_checkpoint(tmp_path / "x", tmp_path / "x", reader), network)
    assert all((state[key] == network.state_dict()[key]).all() for key in state)
    assert set(reader.asked) == set(plain)
    assert not [name for name in plain if not re.match(r"[a-z0-9_/]+/[A-Za-z_/0-9]+$", name)]
    del plain["refine_out/weights"]
    message = error_of(
        tensorflow_checkpoint(tmp_path / "x", tmp_path / "x", FakeReader(plain)), network
    )
    assert message.endswith("it has no 'refine_out/weights'")
