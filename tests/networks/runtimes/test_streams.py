"""Batches of several sizes and shapes through runtimes: the numbers are those of one at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from posepipe.networks.normalising import Normalisation
from posepipe.networks.runtimes.base import Placement, RuntimeNetwork, run_all
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


def exported(network: nn.Module) -> bytes:
    return to_onnx(Exportable(network.eval(), ("first", "second"), (32, 16), any_size=True))


def batches() -> list[Tensor]:
    return [pixels(*shape) for shape in [(1, 16, 32), (5, 32, 32), (2, 16, 32), (1, 48, 16)]]


def pixels(count: int, height: int, width: int) -> Tensor:
    return torch.randint(0, 256, (count, height, width, 3), dtype=torch.uint8)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_batches_at_the_same_time_give_what_each_gives_in_torch(runtime: str) -> None:
    network, images = Two(), batches()
    found = opened(runtime, exported(network))
    with torch.inference_mode():
        together = run_all(found, images, COLOURS)
        alone = [found(one) for one in images]
        in_torch = run_all(network, images, COLOURS)
    for wanted, *given in zip(in_torch, together, alone, strict=True):
        for outputs in given:
            assert [one.shape for one in outputs] == [one.shape for one in wanted]
            for one, other in zip(outputs, wanted, strict=True):
                torch.testing.assert_close(one, other)
    assert run_all(found, [], COLOURS) == []


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
