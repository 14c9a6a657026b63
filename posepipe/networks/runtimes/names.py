"""What a runtime can be called; importing this file imports nothing."""

from typing import Literal

RuntimeName = Literal["auto", "torch", "onnxruntime", "openvino"]
AUTO = "auto"
TORCH = "torch"
VARIABLE = "POSEPIPE_RUNTIME"
"""The environment variable that says what "auto" means."""
