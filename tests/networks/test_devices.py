"""Devices and number formats by name, and what is refused."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from fake_gpu import GPU as FAKE_GPU
from fake_gpu import fake_gpu
from torch.nn import functional as F

from posepipe.errors import OptionError
from posepipe.networks import devices
from posepipe.networks.devices import SideStream, multiplies_fp16, resolve_device, resolve_precision
from posepipe.networks.resizing import bilinear

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def gpus(monkeypatch):
    """Makes this machine look as if it had so many CUDA GPUs, and no Apple one."""

    def pretend(count: int, capability: tuple[int, int] = (9, 0)) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return pretend


def test_auto_takes_a_gpu_where_there_is_one(gpus):
    gpus(0)
    assert resolve_device().type == "cpu"
    gpus(1)
    assert resolve_device().type == "cuda"


def test_auto_takes_apples_gpu_before_the_cpu(gpus, monkeypatch):
    gpus(0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto").type == "mps"


@pytest.mark.parametrize("name", ["cpu", "cuda", "cuda:0", "cuda:1"])
def test_a_device_is_what_its_name_says(name, gpus):
    gpus(2)
    assert resolve_device(name) == torch.device(name)


@pytest.mark.parametrize(
    ("name", "count", "message"),
    [
        ("cuda", 0, "device 'cuda' asked for, but 0 CUDA GPUs are usable here: use auto"),
        ("cuda:2", 2, "device 'cuda:2' asked for, but 2 CUDA GPUs are usable here: use auto"),
        ("mps", 1, "device 'mps' asked for, but no Apple GPU is usable here"),
        ("", 0, "no device '': use auto, cpu, cuda, cuda:N or mps"),
        ("gpu", 1, "no device 'gpu': use auto, cpu, cuda, cuda:N or mps"),
        ("cuda:x", 1, "no device 'cuda:x': use auto, cpu, cuda, cuda:N or mps"),
        ("meta", 1, "no device 'meta': use auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_a_device_that_is_not_to_be_had_is_refused_in_one_line(name, count, message, gpus):
    gpus(count)
    with pytest.raises(OptionError) as caught:
        resolve_device(name)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_a_precision_is_what_its_name_says(name, dtype):
    assert resolve_precision(name, GPU) == dtype


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16)]
)
def test_auto_is_bf16_on_gpus_that_have_it(capability, dtype, gpus):
    gpus(1, capability)
    assert resolve_precision("auto", GPU) == dtype


@pytest.mark.parametrize(
    ("device", "capability", "does"),
    [
        (GPU, (6, 1), False),
        (GPU, (7, 0), True),
        (GPU, (9, 0), True),
        (CPU, (9, 0), False),
        (torch.device("mps"), (9, 0), False),
    ],
)
def test_gpus_multiply_fp16_from_volta_on(device, capability, does, gpus):
    gpus(1, capability)
    assert multiplies_fp16(device) == does


@pytest.mark.parametrize(
    ("abilities", "dtype"),
    [
        ({}, torch.float32),
        ({"avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
    ],
)
def test_auto_is_bf16_on_cpus_that_multiply_it_natively(abilities, dtype, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities, raising=False)
    assert resolve_precision("auto", CPU) == dtype


@pytest.mark.parametrize(
    ("text", "name", "dtype"),
    [
        ("model name\t: AMD EPYC\nflags\t\t: fpu avx2 avx512_bf16\n", "AMD EPYC", torch.bfloat16),
        ("model name\t: A\nflags\t: avx2\n\nmodel name\t: A\nflags\t: avx2\n", "A", torch.float32),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", "", torch.bfloat16),
        ("", "", torch.float32),
        (None, None, torch.float32),
    ],
)
def test_where_torch_is_too_old_to_know_linux_is_asked(text, name, dtype, monkeypatch, tmp_path):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(devices, "_CPUINFO", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert devices.cpu_abilities().get("cpu_name") == name
    assert resolve_precision("auto", CPU) == dtype


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fp16", "precision fp16 needs a GPU: use auto, fp32 or bf16 on a CPU"),
        ("half", "no precision 'half': use auto, fp32, bf16 or fp16"),
        ("", "no precision '': use auto, fp32, bf16 or fp16"),
    ],
)
def test_a_precision_that_is_not_to_be_had_is_refused_in_one_line(name, message):
    with pytest.raises(OptionError) as caught:
        resolve_precision(name, CPU)
    assert str(caught.value) == message


def test_features_are_enlarged_in_channels_last_on_cuda_alone() -> None:
    features = torch.randn(2, 3, 4, 5)
    enlarged = bilinear(features, scale_factor=2.0, align_corners=True)
    how = {"size": (8, 10), "mode": "bilinear", "align_corners": True}
    assert torch.equal(enlarged, F.interpolate(features, **how))
    assert enlarged.is_contiguous()
    with fake_gpu(), mock.patch("torch.nn.functional.interpolate") as interpolate:
        bilinear(torch.empty(2, 3, 4, 5, device=FAKE_GPU), size=(8, 10))
    [(given,), _] = interpolate.call_args
    assert given.is_contiguous(memory_format=torch.channels_last)


def test_beside_what_a_cpu_does_nothing_is_done() -> None:
    side = SideStream(CPU)
    tensor = side.begin(lambda: torch.ones(3))
    assert side.awaited(tensor) is tensor


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
def test_on_cuda_the_rest_waits_for_what_is_done_beside_it() -> None:
    side, sums = SideStream(GPU), []
    pinned = [torch.full((3000, 3000), float(number), pin_memory=True) for number in range(30)]
    for numbers in pinned:
        there = side.begin(lambda numbers=numbers: numbers.to(GPU, non_blocking=True) * 2)
        there = side.awaited(there)
        torch.cuda._sleep(1_000_000)  # cycles: the rest is late
        sums.append((there + 1).sum())
        del there  # its memory is not used again too soon
    assert [float(one) / 9e6 for one in sums] == [2 * number + 1 for number in range(30)]
