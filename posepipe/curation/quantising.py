"""Networks in 8-bit integers, for OpenVINO, by NNCF after training (the extra ``int8``).

Weights and activations of most convolutions become whole numbers of 8 bits, with scales that are
measured on a few images. What stays as it is was chosen by the accuracy of the default models: all
but ordinary convolutions (the channels of depthwise ones and of sums differ too much in size for
one scale), the first convolution, and heads.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt

from posepipe.errors import MissingDependencyError, OptionError

LEAST_INPUTS = 8
"""Fewer images say too little about how large activations are."""

_KEPT_TYPES = [  # as OpenVINO calls them
    "Add",
    "Concat",
    "GroupConvolution",
    "HSigmoid",
    "Interpolate",
    "MaxPool",
    "Multiply",
    "ReduceMean",
    "Swish",
]
_KEPT_PARTS = "head"  # in the names of modules
_CONVOLUTION = "Convolution"


def check_can_quantise() -> None:
    """Check that what quantises is installed.

    Raises:
        MissingDependencyError: it is not.
    """
    for library in ("nncf", "openvino"):
        if find_spec(library) is None:
            raise MissingDependencyError(f"int8 needs {library}: pip install 'posepipe[int8]'")


def quantised(content: bytes, inputs: Sequence[npt.NDArray[np.float32]]) -> Any:
    """The ``openvino.Model`` of an ONNX network in 8-bit integers.

    Args:
        content: of the ONNX file.
        inputs: normalised images (1, 3, H, W) as the network will see.

    Raises:
        MissingDependencyError: NNCF or OpenVINO is not installed.
        OptionError: too few images.
    """
    check_can_quantise()
    if len(inputs) < LEAST_INPUTS:
        raise OptionError(
            f"{len(inputs)} people or images to calibrate with; at least {LEAST_INPUTS} are "
            "needed: name a folder with more of them"
        )
    # NNCF looks for a CUDA compiler, whose absence is nobody's concern here.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import posepipe.networks.runtimes  # noqa: F401, I001  # first: it keeps the others silent
    import nncf
    import openvino

    network = openvino.Core().read_model(content)
    kept = nncf.IgnoredScope(names=_ends(network), types=_KEPT_TYPES, validate=False)
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):  # its progress bars
        return nncf.quantize(
            network,
            nncf.Dataset(inputs),
            subset_size=len(inputs),
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=kept,
        )


def _ends(network: Any) -> list[str]:
    """The first convolution, those of heads, and those that nothing but arithmetic follows."""
    every = [
        op.get_friendly_name()
        for op in network.get_ordered_ops()
        if op.get_type_name() == _CONVOLUTION
    ]
    names = every[:1] + [name for name in every if _KEPT_PARTS in name]
    waiting, seen = list(network.get_results()), set()
    while waiting:
        op = waiting.pop()
        name = op.get_friendly_name()
        if name in seen:
            continue
        seen.add(name)
        if op.get_type_name() == _CONVOLUTION:
            names.append(name)
        else:
            waiting += [one.get_source_output().get_node() for one in op.inputs()]
    return list(dict.fromkeys(names))
