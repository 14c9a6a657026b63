"""Batches of several sizes and shapes through runtimes: the numbers are those of one at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from posepipe.networks.runtimes.base import Placement, RuntimeNetwork, run_all
from posepipe.networks.runtimes.export import Exportable, to_onnx
from posepipe.networks.runtimes.registry import RUNTIMES, open_network

pytest.importorskip("onnx")
CPU = torch.device("cpu")


class Two(nn.Module):
    """Two outputs, of which one is smaller."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 3, stride=2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(images)
        return first, self.second(first.relu())


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def opened(runtime: str, content: bytes) -> RuntimeNetwork:
    if not RUNTIMES[runtime].is_installed:
        pytest.skip(f"{runtime} is not installed")
    return open_network(content, Placement(runtime, CPU, torch.float32), place="two.onnx")


def exported(network: nn.Module) -> bytes:
    return to_onnx(Exportable(network.eval(), ("first", "second"), (32, 16), any_size=True))


def batches() -> list[Tensor]:
    shapes = [(1, 3, 16, 32), (5, 3, 32, 32), (2, 3, 16, 32), (1, 3, 48, 16)]
    return [torch.randn(shape) for shape in shapes]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_batches_at_the_same_time_give_what_each_gives_in_torch(runtime: str) -> None:
    network, images = Two(), batches()
    found = opened(runtime, exported(network))
    with torch.inference_mode():
        together = run_all(found, images)
        alone = [found(one) for one in images]
        in_torch = run_all(network, images)
    for wanted, *given in zip(in_torch, together, alone, strict=True):
        for outputs in given:
            assert [one.shape for one in outputs] == [one.shape for one in wanted]
            for one, other in zip(outputs, wanted, strict=True):
                torch.testing.assert_close(one, other)
    assert run_all(found, []) == []


def test_the_streams_of_openvino_share_a_batch_and_the_results_are_their_own() -> None:
    network = Two()
    found = opened("openvino", exported(network))
    with torch.inference_mode():
        for count in (1, 2, 3, 7, 1):
            images = torch.randn(count, 3, 16, 32)
            first, wanted = found(images), network(images)
            found(torch.randn(count, 3, 16, 32))  # does not write into what was given before
            for one, other in zip(first, wanted, strict=True):
                torch.testing.assert_close(one, other)
