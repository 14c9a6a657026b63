"""Which device and which number format the networks run in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy.typing as npt
import torch
from torch import Tensor, nn

from posepipe.errors import OptionError

T = TypeVar("T")
Precision = Literal["auto", "fp32", "bf16", "fp16"]
_CPUINFO = Path("/proc/cpuinfo")
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_device(device: str = "auto") -> torch.device:
    """The device that a name stands for: "auto", "cpu", "cuda", "cuda:1", "mps".

    "auto" takes a CUDA GPU, else Apple's GPU, else the CPU.

    Raises:
        OptionError: no such device on this machine, or not a device's name.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise OptionError(f"no device {device!r}: use auto, cpu, cuda, cuda:N or mps") from None
    if chosen.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (chosen.index or 0) >= count:
            raise OptionError(
                f"device {device!r} asked for, but {count} CUDA GPUs are usable here: use auto"
            )
    elif chosen.type == "mps":
        if not torch.backends.mps.is_available():
            raise OptionError("device 'mps' asked for, but no Apple GPU is usable here")
    elif chosen.type != "cpu":
        raise OptionError(f"no device {device!r}: use auto, cpu, cuda, cuda:N or mps")
    return chosen


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """The number format of a network's convolutions: "auto", "fp32", "bf16" or "fp16".

    "auto" takes bf16 where the hardware multiplies it natively (there it is about three times as
    fast), else fp32; emulated bf16 would be slower than fp32. (Crop networks on CUDA have a rule of
    their own: `posepipe.pose.model.load_pose_model`.)

    Raises:
        OptionError: not a precision's name, or fp16 on a CPU.
    """
    if precision == "auto":
        return torch.bfloat16 if _has_native_bf16(device) else torch.float32
    if precision not in _DTYPES:
        raise OptionError(f"no precision {precision!r}: use auto, fp32, bf16 or fp16")
    if precision == "fp16" and device.type == "cpu":
        raise OptionError("precision fp16 needs a GPU: use auto, fp32 or bf16 on a CPU")
    return _DTYPES[precision]


def precision_name(dtype: torch.dtype) -> str:
    """The name under which `resolve_precision` knows a number format.

    >>> precision_name(torch.bfloat16)
    'bf16'
    """
    return next(name for name, known in _DTYPES.items() if known == dtype)


def put(network: nn.Module, device: torch.device, *, entrance: nn.Module | None = None) -> None:
    """Move a network to a device, in the memory format in which that runs it best.

    That is channels_last. But for every shape that comes for the first time, CUDA takes a quarter
    of a second for each depthwise convolution in it (RTMDet-nano, on an H200: 4 seconds for 0.1).
    So networks that have some are in the contiguous format there; so are the images that enter
    them, and what enters those convolutions, whatever came before.

    Args:
        network: in evaluation mode.
        device: where it is to run.
        entrance: the part of it that takes the images; None: itself.
    """
    depthwise = [module for module in network.modules() if _is_depthwise(module)]
    if device.type != "cuda" or not depthwise:
        network.to(device).to(memory_format=torch.channels_last)
        return
    network.to(device).to(memory_format=torch.contiguous_format)
    for module in dict.fromkeys([entrance or network, *depthwise]):
        if _contiguous not in module._forward_pre_hooks.values():
            module.register_forward_pre_hook(_contiguous)


def _is_depthwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1


def _contiguous(_: nn.Module, images: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(one.contiguous() for one in images)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Within it, convolutions on CUDA compute with all bits of float32; torch's default is 10 bits.

    RTMDet-nano's boxes are then those of a CPU (on an H200, 1,987 boxes of 44 images to 0.002 px),
    where with 10 bits they differ by 0.01 px in the median, and by 25 px at most.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def moved(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """An array on a device; a GPU gets it without the caller waiting for what it does now."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def copied_into(places: tuple[Tensor, ...], parts: list[Tensor]) -> None:
    """Copy tensors to where they belong; a GPU fetches those in pinned memory by itself.

    All in one call: after each, this thread would wait for its turn among those that read.

    Args:
        places: on one device, at least one.
        parts: as many, of the same shapes.
    """
    torch._foreach_copy_(places, parts, non_blocking=places[0].is_cuda)


class SideStream:
    """What a CUDA GPU does beside the rest, such as fetching pixels while a network computes.

    On other devices all is done at once.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def begin(self, work: Callable[[], T]) -> T:
        """Have the GPU work beside the rest; tensors that come of it are for this stream alone."""
        if self._device.type != "cuda":
            return work()
        with torch.cuda.stream(self._stream):
            return work()

    def awaited(self, tensor: Tensor) -> Tensor:
        """A tensor of `begin` for the rest, which waits for it; the caller does not."""
        if self._device.type == "cuda":
            rest = torch.cuda.current_stream(self._device)
            rest.wait_stream(self._stream)
            tensor.record_stream(rest)
        return tensor

    @cached_property
    def _stream(self) -> torch.cuda.Stream:
        return torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]


def fetched(*tensors: Tensor) -> Callable[[], list[npt.NDArray[Any]]]:
    """Tensors on their way to the host: the function returned waits for all of them at once.

    A GPU goes on with what else it is given meanwhile, and so does the caller.
    """
    device = tensors[0].device if tensors else torch.device("cpu")
    if device.type != "cuda":
        numbers = [tensor.cpu().numpy() for tensor in tensors]
        return lambda: numbers
    there = [torch.empty(one.shape, dtype=one.dtype, pin_memory=True) for one in tensors]
    for place, tensor in zip(there, tensors, strict=True):
        place.copy_(tensor, non_blocking=True)
    arrived = torch.cuda.current_stream(device).record_event()

    def wait() -> list[npt.NDArray[Any]]:
        arrived.synchronize()
        return [place.numpy() for place in there]

    return wait


@cache  # for good: a recorded graph reads them where they are
def constant(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Numbers on a device, sent there once: sending some waits for all that a GPU has to do.

    Nobody may change them.
    """
    with torch.inference_mode(False):  # so that they can be used in training as well
        return torch.tensor(values, device=device, dtype=dtype)


def multiplies_fp16(device: torch.device) -> bool:
    """Whether a CUDA GPU has units for products of fp16, which make it as fast as bf16 or faster.

    Volta and Turing (V100, T4) have none for bf16.
    """
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def _has_native_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        abilities = cpu_abilities()
        return any(abilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return False


def cpu_abilities() -> Mapping[str, Any]:
    """What this machine's CPU can do, by names such as "avx512_bf16", and its "cpu_name".

    By torch, or where that is too old to know, by Linux; elsewhere nothing is known.
    """
    if hasattr(torch.cpu, "get_capabilities"):
        found: Mapping[str, Any] = torch.cpu.get_capabilities()
        return found
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    named = {key.strip(): value.strip() for key, _, value in (one.partition(":") for one in lines)}
    flags = named.get("flags", named.get("Features", "")).split()  # Intel's and AMD's, Arm's
    return {"cpu_name": named.get("model name", ""), **dict.fromkeys(flags, True)}
