"""Batches of several sizes and shapes through runtimes: the numbers are those of one at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor, nn

from posepipe.networks.normalising import Normalisation
from posepipe.networks.runtimes.base import Placement, RuntimeNetwork, start_all
from posepipe.networks.runtimes.export import Exportable, to_onnx
from posepipe.networks.runtimes.registry import RUNTIMES, open_network

pytest.importorskip("onnx")
CPU = torch.device("cpu")
COLOURS = Normalisation((100.0, 50.0, 10.0), (30.0, 60.0, 90.0))
BACKWARDS = Normalisation(COLOURS.mean, COLOURS.std, bgr=True)


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


def opened(
    runtime: str, content: bytes, normalisation: Normalisation | None = COLOURS
) -> RuntimeNetwork:
    if not RUNTIMES[runtime].is_installed:
        pytest.skip(f"{runtime} is not installed")
    return open_network(
        content,
        Placement(runtime, CPU, torch.float32),
        place="two.onnx",
        normalisation=normalisation,
    )


def exported(network: nn.Module, *, any_size: bool = True) -> bytes:
    return to_onnx(Exportable(network.eval(), ("first", "second"), (32, 16), any_size=any_size))


def batches() -> list[Tensor]:
    return [pixels(*shape) for shape in [(1, 16, 32), (5, 32, 32), (2, 16, 32), (1, 48, 16)]]


def pixels(count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_batches_at_the_same_time_give_what_each_gives_in_torch(runtime: str) -> None:
    network, images = Two(), batches()
    found = opened(runtime, exported(network))
    with torch.inference_mode():
        together = start_all(found, images, COLOURS)()
        alone = [found(one) for one in images]
        in_torch = start_all(network, images, COLOURS)()
    for wanted, *given in zip(in_torch, together, alone, strict=True):
        for outputs in given:
            assert [one.shape for one in outputs] == [one.shape for one in wanted]
            for one, other in zip(outputs, wanted, strict=True):
                torch.testing.assert_close(one, other)
    assert list(start_all(found, [], COLOURS)()) == []


@pytest.mark.parametrize("normalisation", [COLOURS, BACKWARDS, None])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_pixels_are_normalised_in_the_networks_own_order_of_colours(
    runtime: str, normalisation: Normalisation | None
) -> None:
    network, given = Two(), pixels(3, 16, 32)
    found = opened(runtime, exported(network), normalisation)
    images = given.permute(0, 3, 1, 2).float()
    if normalisation is None:
        given = images
    else:
        images = images.flip(1) if normalisation.bgr else images
        mean, std = (torch.tensor(of)[:, None, None] for of in (COLOURS.mean, COLOURS.std))
        images = (images - mean) / std
    with torch.inference_mode():
        for one, other in zip(found(given), network(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(other.abs().max()))


def test_the_streams_of_openvino_share_a_batch_and_the_results_are_their_own() -> None:
    network = Two()
    found = opened("openvino", exported(network))
    with torch.inference_mode():
        for count in (1, 2, 3, 7, 1):
            given = pixels(count, 16, 32)
            first, wanted = found(given), network(COLOURS(given))
            found(pixels(count, 16, 32))  # does not write into what was given before
            for one, other in zip(first, wanted, strict=True):
                torch.testing.assert_close(one, other)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("any_size", [True, False])
def test_batches_started_ahead_give_the_numbers_of_each_alone_to_the_bit(
    runtime: str, any_size: bool
) -> None:
    found = opened(runtime, exported(Two(), any_size=any_size))
    images = [pixels(count, 16, 32) for count in (1, 4, 2, 5, 3, 1)]
    alone = [found(one) for one in images]
    singly = [[found(image[None]) for image in one] for one in images]
    waiting = [found.start([one]) for one in images]
    for number in (3, 0, 5, 1, 2, 4):  # in any order
        [given] = waiting[number]()
        for place, output in enumerate(given):
            assert torch.equal(output, alone[number][place])
            assert torch.equal(output, torch.cat([one[place] for one in singly[number]]))


def test_several_threads_start_batches_and_each_gets_its_own_numbers() -> None:
    found = opened("openvino", exported(Two(), any_size=False))
    images = [pixels(count, 16, 32) for count in (3, 2, 1, 5) * 5]
    wanted = [found(one) for one in images]
    with ThreadPoolExecutor(4) as threads:
        given = list(threads.map(lambda one: next(found.start([one])()), images))
    for one, other in zip(given, wanted, strict=True):
        assert all(map(torch.equal, one, other))


def test_batches_that_are_started_and_left_disturb_no_other() -> None:
    found = opened("openvino", exported(Two(), any_size=False))
    images = pixels(4, 16, 32)
    wanted = found(images)
    for _ in range(9):
        found.start([pixels(4, 16, 32)])
    assert all(map(torch.equal, found(images), wanted))
