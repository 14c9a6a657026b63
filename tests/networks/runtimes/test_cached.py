from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from posepipe.errors import OptionError, WeightsError
from posepipe.networks.runtimes import cached
from posepipe.networks.runtimes.base import Placement, RuntimeNetwork
from posepipe.networks.runtimes.cached import in_runtime
from posepipe.networks.runtimes.export import Exportable

pytest.importorskip("onnx")
CPU = torch.device("cpu")


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest) -> str:
    """A runtime that is installed."""
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("POSEPIPE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "exported" / "toy"


class Maker:
    """Makes a small network, and counts how often."""

    def __init__(self, network: Callable[[], nn.Module]) -> None:
        self.times, self._network = 0, network

    def __call__(self) -> Exportable:
        self.times += 1
        torch.manual_seed(0)
        return Exportable(self._network(), ("maps",), (16, 8))


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())


def test_a_network_is_exported_once_and_gives_torchs_numbers(runtime, cache) -> None:
    make, images = Maker(convolution), torch.randn(5, 3, 8, 16)
    for _ in range(2):
        network, placement = in_runtime("toy", {}, Placement(runtime, CPU, torch.float32), make)
        assert placement.runtime == runtime
        assert isinstance(network, RuntimeNetwork)
        torch.testing.assert_close(network(images)[0], convolution_of(images), rtol=0, atol=1e-6)
    assert make.times == 1
    [folder] = cache.iterdir()
    digest = hashlib.sha256((folder / "network.onnx").read_bytes()).hexdigest()
    assert (folder / "network.onnx.sha256").read_text() == digest


def convolution_of(images: Tensor) -> Tensor:
    torch.manual_seed(0)
    with torch.no_grad():
        result: Tensor = convolution()(images)
    return result


def test_a_damaged_one_is_exported_again(runtime, cache) -> None:
    make, where = Maker(convolution), Placement(runtime, CPU, torch.float32)
    in_runtime("toy", {}, where, make)
    [file] = cache.glob("*/network.onnx")
    whole = file.read_bytes()
    for broken in (whole[:-9], whole[:300] + b"\x00" * 9 + whole[309:], b""):
        file.write_bytes(broken)
        in_runtime("toy", {}, where, make)
        assert len(file.read_bytes()) == len(whole)
    assert make.times == 4


def test_other_weights_are_another_network_and_old_ones_go(cache) -> None:
    pytest.importorskip("onnxruntime")
    make, where = Maker(convolution), Placement("onnxruntime", CPU, torch.float32)
    for number in range(6):
        in_runtime("toy", {"weights": str(number)}, where, make)
    assert make.times == 6
    assert len(list(cache.iterdir())) == 4
    in_runtime("toy", {"weights": "5"}, where, make)
    assert make.times == 6


def test_the_one_that_was_not_used_for_longest_goes_first(cache) -> None:
    pytest.importorskip("onnxruntime")
    make, where = Maker(convolution), Placement("onnxruntime", CPU, torch.float32)
    for number in range(4):
        in_runtime("toy", {"weights": str(number)}, where, make)
    for age, folder in enumerate(sorted(cache.iterdir(), key=lambda one: one.stat().st_mtime_ns)):
        os.utime(folder, (1_000 + age, 1_000 + age))  # the first one is the oldest
    in_runtime("toy", {"weights": "0"}, where, make)
    in_runtime("toy", {"weights": "4"}, where, make)
    assert make.times == 5
    in_runtime("toy", {"weights": "0"}, where, make)
    assert make.times == 5
    in_runtime("toy", {"weights": "1"}, where, make)
    assert make.times == 6


def test_a_cache_that_cannot_be_written_is_no_error(cache, tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "cache").write_text("not a folder")
    make, where = Maker(convolution), Placement("onnxruntime", CPU, torch.float32)
    network, _ = in_runtime("toy", {}, where, make)
    assert network(torch.zeros(1, 3, 8, 16))[0].shape == (1, 4, 8, 16)


def test_what_a_library_cannot_open_stays_in_torch(cache, monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise WeightsError("no implementation on this CPU")

    monkeypatch.setattr(cached, "open_network", fail)
    automatic = Placement("openvino", CPU, torch.bfloat16, automatic=True)
    network, placement = in_runtime("toy", {}, automatic, Maker(convolution))
    assert isinstance(network, nn.Sequential)
    assert (placement.runtime, placement.dtype) == ("torch", torch.bfloat16)


class Unexportable(nn.Module):
    """What ONNX has no word for."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.linalg.svd(images).S


class Untraceable(nn.Module):
    """Takes a branch that a trace takes for the only one."""

    def forward(self, images: Tensor) -> Tensor:
        return images + 1 if images.abs().max() > 0 else images


@pytest.mark.parametrize(
    ("network", "says"),
    [(Unexportable, "torch cannot export this network"), (Untraceable, "gives other numbers")],
)
def test_what_does_not_export_stays_in_torch_unless_a_runtime_was_named(
    network, says, cache
) -> None:
    pytest.importorskip("onnxruntime")
    named = Placement("onnxruntime", CPU, torch.float32)
    with pytest.raises(OptionError, match=says):
        in_runtime("toy", {}, named, Maker(network))
    automatic = Placement("onnxruntime", CPU, torch.float32, automatic=True)
    stays, placement = in_runtime("toy", {}, automatic, Maker(network))
    assert placement.runtime == "torch"
    assert isinstance(stays, network)
    assert not list(cache.glob("*/network.onnx"))
