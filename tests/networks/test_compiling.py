"""Compiled networks give the numbers of those that are not, for batches of any size."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import Tensor, nn

from posepipe.errors import OptionError
from posepipe.networks.compiling import Compiled, compiling, pays

NO_COMPILER = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)


class Counting(nn.Module):
    """Notes the sizes of the batches that reach it."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        self.sizes.append(len(images))
        return images * 2, images.flatten(1).sum(dim=1)


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [2]), (2, [2]), (3, [2, 2]), (12, [2] * 6), (13, [16]), (16, [16]), (35, [16, 16, 2, 2])],
)
def test_batches_are_put_together_from_two_sizes(count, sizes, monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    network = Counting()
    images = torch.randn(count, 3, 4, 5)
    doubled, sums = Compiled(network, 16)(images)
    assert network.sizes == sizes
    assert torch.equal(doubled, images * 2)
    torch.testing.assert_close(sums, images.flatten(1).sum(dim=1))


@pytest.mark.slow
@NO_COMPILER
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_a_compiled_network_gives_the_numbers_of_the_network() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval().requires_grad_(False)
    compiled = Compiled(network, 2)
    with torch.inference_mode(), compiling():
        for count in (1, 3):
            images = torch.randn(count, 3, 8, 8)
            [found] = compiled(images)
            torch.testing.assert_close(found, network(images))


def test_without_a_compiler_there_is_one_clear_line() -> None:
    says = r"cannot be compiled \(no g\+\+\): .* C\+\+ compiler"
    with pytest.raises(OptionError, match=says), compiling():
        raise RuntimeError("no g++")


def test_compiling_pays_for_long_runs_on_cuda_alone() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert pays(cuda, 1_000_000)
    assert not pays(cuda, 5_000)
    assert not pays(cpu, 1_000_000)
