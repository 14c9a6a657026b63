"""What measurements were made on, for a line above them."""

from __future__ import annotations

import contextlib
import platform
import re
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import torch


def machine_line(*, cpu_time: bool) -> str:
    """What was measured on, and with which versions."""
    processor = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):  # Linux
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
        processor = re.findall(r"model name\s*: (.*)", text)[0]
    abilities = [name for name in ("avx2", "avx512_bf16", "amx_bf16") if _has(name)]
    versions = [
        f"{name} {metadata.version(name)}"
        for name in ("torch", "openvino", "onnxruntime", "opencv-python-headless")
        if find_spec(name.partition("-")[0].replace("opencv", "cv2")) is not None
    ]
    return (
        f"{processor} ({', '.join(abilities)}), {torch.get_num_threads()} threads, "
        f"{'seconds of computing' if cpu_time else 'seconds'}; Python {platform.python_version()}, "
        f"{', '.join(versions)}"
    )


def _has(ability: str) -> bool:
    return bool(torch.cpu.get_capabilities().get(ability, False))
