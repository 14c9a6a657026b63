"""Batches of two sizes, and what a GPU does for them, recorded."""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from counting import Counting
from torch import Tensor, nn

from posepipe.networks import devices, recording
from posepipe.networks.devices import put
from posepipe.networks.normalising import normalised
from posepipe.networks.recording import TwoSizes, recorded
from posepipe.pose.networks.globalnet import upsample

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


@contextmanager
def on_gpu(monkeypatch):
    """Tensors of this machine count as a CUDA GPU's, and nothing is really recorded."""
    made = []

    def record(compute, images, pool):
        made.append(len(images))
        if len(images) == 16:
            raise RuntimeError("out of memory")
        return compute

    monkeypatch.setattr(recording, "recorded", record)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(recording, "_is_on_cuda", lambda _: True)
    yield made


def test_each_size_is_recorded_once_and_what_cannot_be_is_computed_as_it_is(monkeypatch) -> None:
    network = Counting()
    in_sizes = TwoSizes(network, 16, shapes=1)
    with on_gpu(monkeypatch) as made:
        for count, width in [(2, 5), (16, 5), (19, 5), (3, 6)]:
            images = torch.randn(count, 3, 4, width)
            assert torch.equal(in_sizes(images)[0], images * 2)
    assert made == [2, 16]  # 16 failed
    assert network.sizes == [2, 16, 16, 2, 2, 3]  # the last one's shape is too many


def test_an_error_of_the_computation_itself_is_raised_whenever_it_comes(monkeypatch) -> None:
    def fail(_: Tensor) -> tuple[Tensor, ...]:
        raise ValueError("no such thing")

    in_sizes = TwoSizes(fail, 16)
    with on_gpu(monkeypatch):
        for _ in range(2):
            with pytest.raises(ValueError, match="no such thing"):
                in_sizes(torch.zeros(2, 3))


def test_what_is_recorded_is_replayed_for_other_images(monkeypatch) -> None:
    """With stand-ins for CUDA's: a graph that remembers what computes, and where to."""
    recording = []

    class Graph:
        def replay(self) -> None:
            [found] = recording
            for place, new in zip(found, network(given[0]), strict=True):
                place.copy_(new)

    @contextmanager
    def record(_graph, **_):
        yield
        recording.append(seen[-1])

    network, seen, given = Counting(), [], []

    def compute(images: Tensor) -> tuple[Tensor, ...]:
        given[:] = [images]
        seen.append(network(images))
        return seen[-1]

    stream = SimpleNamespace(wait_stream=lambda _: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    batches = torch.randn(3, 2, 3, 4, 5)
    replayed = recorded(compute, batches[0])
    assert len(seen) == 3  # computed twice before it is recorded
    found = [replayed(images) for images in batches]
    assert len(seen) == 3
    for images, (doubled, sums) in zip(batches, found, strict=True):  # none is written over
        assert torch.equal(doubled, images * 2)
        torch.testing.assert_close(sums, images.flatten(1).sum(dim=1))


@pytest.mark.gpu
@NO_GPU
def test_on_cuda_recordings_give_the_numbers_and_one_that_fails_is_survived() -> None:
    def waits(images: Tensor) -> tuple[Tensor, ...]:
        return (images * 2 if float(images.sum()) > -1e30 else images,)

    for compute in (lambda images: (images * 2,), waits):
        in_sizes = TwoSizes(compute, 8)
        for count in (11, 1, 8, 3):
            images = torch.randn(count, 3, device="cuda")
            assert torch.equal(in_sizes(images)[0], images * 2)
    assert torch.cuda.current_stream() == torch.cuda.default_stream()


class Separable(nn.Sequential):
    """Depthwise and pointwise; moved nowhere."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 8, 1))

    def to(self, *args, **kwargs):
        if kwargs:
            super().to(**kwargs)
        return self


def test_depthwise_convolutions_run_in_contiguous_memory_on_cuda_alone() -> None:
    images = torch.randn(2, 4, 8, 8).contiguous(memory_format=torch.channels_last)
    on_cpu, on_cuda = Separable().eval(), Separable().eval()
    put(on_cpu, torch.device("cpu"))
    assert on_cpu(images).is_contiguous(memory_format=torch.channels_last)
    put(on_cuda, torch.device("cuda"))
    assert on_cuda(images).is_contiguous()
    seen = []
    on_cuda[0].register_forward_hook(lambda _, given, found: seen.append((*given, found)))
    on_cuda.register_forward_pre_hook(lambda _, given: (images,))  # as a layer before might
    on_cuda(images)
    assert all(one.is_contiguous() for one in seen[0])
    assert not devices._is_depthwise(nn.Conv2d(4, 8, 3))


@pytest.mark.gpu
@NO_GPU
def test_on_cuda_pixels_are_normalised_and_features_enlarged_to_the_numbers_of_the_cpu() -> None:
    pixels = torch.randint(0, 256, (2, 64, 48, 3), dtype=torch.uint8)
    given = ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))
    on_cpu, on_cuda = (normalised(one, *given) for one in (pixels, pixels.cuda()))
    assert torch.equal(on_cpu, on_cuda.cpu())
    features = torch.randn(2, 8, 12, 9, device="cuda", dtype=torch.bfloat16)
    with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
        in_float32, as_it_is = (
            upsample(features, (24, 18), "half_pixel", before_conv=one) for one in (False, True)
        )
    assert (in_float32.dtype, as_it_is.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(in_float32.bfloat16(), as_it_is)
