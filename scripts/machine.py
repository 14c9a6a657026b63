"""What measurements were made on, for a line above them."""

from __future__ import annotations

import platform
from importlib import metadata
from importlib.util import find_spec

import torch

from posepipe.networks.devices import cpu_abilities


def machine_line(*, cpu_time: bool) -> str:
    """What was measured on, and with which versions."""
    known = cpu_abilities()
    processor = known.get("cpu_name") or platform.processor() or platform.machine()
    abilities = [name for name in ("avx2", "avx512_bf16", "amx_bf16") if known.get(name)]
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
