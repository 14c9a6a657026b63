"""Batches of two sizes, and what a GPU does for them, recorded."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from counting import Counting
from torch import Tensor, nn

from posepipe.networks import devices, recording
from posepipe.networks.devices import put
from posepipe.networks.normalising import normalised
from posepipe.networks.recording import Recorder, TwoSizes
from posepipe.pose.networks.globalnet import upsample

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")


@pytest.fixture
def recordings(monkeypatch) -> list[int]:
    """Tensors of this machine count as a CUDA GPU's: the sizes of what is, or is not, recorded."""
    made = []

    class Recorder:
        def __call__(self, compute, images):
            made.append(len(images))
            if len(images) == 16:
                raise RuntimeError("out of memory")
            return compute

    monkeypatch.setattr(recording, "Recorder", Recorder)
    monkeypatch.setattr(recording, "_is_on_cuda", lambda _: True)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    return made


def test_each_size_is_recorded_once_and_what_cannot_be_is_computed_as_it_is(
    recordings, caplog
) -> None:
    network = Counting()
    in_sizes = TwoSizes(network, 16, shapes=2)
    for count, width in [(2, 5), (16, 5), (19, 5), (3, 6), (3, 7), (35, 8)]:
        images = torch.randn(count, 3, 4, width)
        assert torch.equal(in_sizes(images)[0], images * 2)
    assert recordings == [2, 16, 2]  # 16 failed
    of_two_shapes, of_others = [2, 16, 16, 2, 2, 2, 2], [3, 16, 16, 3]
    assert network.sizes == of_two_shapes + of_others
    assert [record.getMessage() for record in caplog.records] == [
        "a batch of 16 runs as it is, not recorded: out of memory"
    ]


def test_sizes_may_be_multiplied_and_are_those_of_what_is_inside() -> None:
    network = Counting()
    outer = TwoSizes(lambda images: network(torch.cat([images, images])), 10)
    inner = TwoSizes(network, 10, times=2)
    for count in (1, 10, 23):
        outer(torch.zeros(count, 3))
    sizes, network.sizes = network.sizes, []
    for size in set(sizes):
        inner(torch.zeros(size, 3))
    assert set(network.sizes) == set(sizes) == {4, 20}


def test_an_error_of_the_computation_itself_is_raised_whenever_it_comes(recordings) -> None:
    def fail(_: Tensor) -> tuple[Tensor, ...]:
        raise ValueError("no such thing")

    in_sizes = TwoSizes(fail, 16)
    for _ in range(2):
        with pytest.raises(ValueError, match="no such thing"):
            in_sizes(torch.zeros(2, 3))


def test_threads_do_not_get_each_others_numbers(recordings, monkeypatch) -> None:
    """What is recorded has one place for what it is given, and one for what it computes."""

    def replayed(compute, images):
        place = images.clone()

        def replay(part):
            place.copy_(part)
            time.sleep(1e-4)
            return compute(place)

        return replay

    monkeypatch.setattr(recording, "Recorder", lambda: replayed)
    in_sizes = TwoSizes(lambda images: (images * 2,), 2)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: in_sizes(torch.full((2, 1), float(n)))[0], range(100)))
    assert [float(one[0]) for one in found] == [2.0 * n for n in range(100)]


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
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    batches = torch.randn(3, 2, 3, 4, 5)
    replayed = Recorder()(compute, batches[0])
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

    def waits_for_some(images: Tensor) -> tuple[Tensor, ...]:
        return waits(images) if images.shape[1] == 3 else (images * 2,)

    for compute in (lambda images: (images * 2,), waits, waits_for_some):
        in_sizes = TwoSizes(compute, 8, shapes=2)
        for count, width in ((11, 3), (1, 3), (8, 4), (3, 4), (2, 3)):
            images = torch.randn(count, width, device="cuda")
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
    on_cuda.to(memory_format=torch.channels_last)  # as training leaves it
    for _ in range(2):
        put(on_cuda, torch.device("cuda"))
    assert on_cuda(images).is_contiguous()
    assert len(on_cuda[0]._forward_pre_hooks) == 1
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
