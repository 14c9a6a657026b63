"""Compiled networks give the numbers of those that are not, for batches of any size."""

from __future__ import annotations

import logging
import shutil
from functools import partial

import pytest
import torch
from counting import Counting
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from posepipe.errors import OptionError
from posepipe.networks.compiling import Compiled, compiling, pays

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
NO_COMPILER = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)


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
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_nothing_is_compiled_again_for_other_batches(monkeypatch) -> None:
    counter = CompileCounter()  # counts what a compiler would be given
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    torch.compiler.reset()
    networks = [nn.Conv2d(3, channels, 3).eval().requires_grad_(False) for channels in (2, 3, 4)]
    with torch.inference_mode():
        for number, network in enumerate(networks, start=1):
            compiled = Compiled(network, 16, shapes=2)
            for count, width in [(16, 8), (1, 8), (37, 9), (15, 9), (3, 8), (5, 10)]:
                [found] = compiled(torch.randn(count, 3, 8, width))
                assert found.shape == (count, network.out_channels, 6, width - 2)
            assert counter.frame_count == 4 * number  # two sizes of two shapes


def test_only_the_first_shapes_that_come_are_compiled(monkeypatch) -> None:
    network = Counting()
    monkeypatch.setattr(torch, "compile", lambda *_, **__: lambda images: (images + 1,))
    compiled = Compiled(network, 4, shapes=2)
    for width in (5, 6, 7, 5):
        images = torch.randn(3, 3, 4, width)
        found = compiled(images)[0]
        assert torch.equal(found, images * 2 if width == 7 else images + 1)
    assert network.sizes == [3]  # as they come: nothing is filled up


@pytest.mark.gpu
@NO_GPU
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_a_compiled_network_on_cuda_gives_the_numbers_of_the_network() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()).eval().requires_grad_(False).cuda()
    compiled = Compiled(network, 4, shapes=2)
    with torch.inference_mode(), compiling():
        for count, width in ((1, 8), (9, 8), (4, 9), (2, 8), (3, 10)):
            images = torch.randn(count, 3, 8, width, device="cuda")
            [found] = compiled(images)
            torch.testing.assert_close(found, network(images), rtol=1e-3, atol=1e-3)


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
    for more in ("", "\n\nSet TORCHDYNAMO_VERBOSE=1 for the internal stack trace\n"):
        with pytest.raises(OptionError, match=says), compiling():
            raise RuntimeError(f"no g++{more}")


def test_torch_does_not_speak_of_cuda_while_it_compiles(caplog) -> None:
    theirs = logging.getLogger("torch.utils.cpp_extension")
    with caplog.at_level(logging.WARNING, logger=theirs.name):
        with compiling():
            theirs.warning("No CUDA runtime is found")
        theirs.warning("other things")
    assert [record.getMessage() for record in caplog.records] == ["other things"]


def test_a_shape_that_cannot_be_compiled_is_said_whenever_it_comes(monkeypatch) -> None:
    def fail(_) -> None:
        raise ImportError("file too short")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    with pytest.raises(OptionError, match=r"cannot be compiled \(file too short\)"):
        Compiled(Counting(), 4)(torch.zeros(1, 3, 8, 8))


def test_after_a_first_success_batches_that_cannot_be_compiled_take_the_network_as_it_is(
    monkeypatch,
) -> None:
    def compute(images: Tensor) -> tuple[Tensor, Tensor]:
        if len(images) == 16 or images.shape[-1] == 9:
            raise RuntimeError("out of memory")
        return images * 2, images.flatten(1).sum(dim=1)

    monkeypatch.setattr(torch, "compile", lambda *_, **__: compute)
    network = Counting()
    compiled = Compiled(network, 16, shapes=2)
    for count, width in [(2, 8), (16, 8), (18, 8), (2, 9)]:
        images = torch.randn(count, 3, 4, width)
        assert torch.equal(compiled(images)[0], images * 2)
    assert network.sizes == [16, 16, 2]


def test_compiling_pays_for_long_runs_on_cuda_alone() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert pays(cuda, 1_000_000)
    assert not pays(cuda, 5_000)
    assert not pays(cpu, 1_000_000)
