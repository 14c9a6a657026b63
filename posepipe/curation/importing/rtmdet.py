"""RTMDet's published networks, exported as graphs, as weights of `posepipe.detection.rtmdet`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from posepipe.curation.importing.graphs import Convolution, state_of_convolutions
from posepipe.curation.importing.source import renamed
from posepipe.detection.rtmdet import RTMDet, RTMDetTable
from posepipe.zoo.weights import State

# From a graph's operations, "/backbone/stage1/stage1.0/…/Conv_output_0", their folders left out.
_BEGINNINGS = renamed(
    [
        (r"^backbone\.stem\.", "backbone.stages.0."),
        (r"^backbone\.stage1\.(\d)\.", lambda m: f"backbone.stages.0.{int(m[1]) + 3}."),
        (
            r"^backbone\.stage(\d)\.(\d)\.",
            lambda m: f"backbone.stages.{int(m[1]) - 1}.{m[2]}.",
        ),
        (r"^neck\.reduce_layers\.", "neck.reduce."),
        (r"^neck\.top_down_blocks\.", "neck.top_down."),
        (r"^neck\.downsamples\.", "neck.downsample."),
        (r"^neck\.bottom_up_blocks\.", "neck.bottom_up."),
        (r"^neck\.out_convs\.", "neck.out."),
        (r"^bbox_head\.cls_convs\.", "head.score_units."),
        (r"^bbox_head\.reg_convs\.", "head.box_units."),
        (r"^bbox_head\.rtm_reg\.", "head.boxes."),
        (r"^rtmdet_head\.0\.", "head.scores."),
    ]
)
_PARTS = {
    "depthwise_conv": "depthwise",
    "pointwise_conv": "pointwise",
    "short_conv": "short",
    "main_conv": "main",
    "final_conv": "final",
}
_FIRST = "backbone.stages.0.0.conv.weight"
# The spatial pyramid pooling names its two convolutions as a block does.
_POOLING = {
    "backbone.stages.3.1.conv1.conv": "backbone.stages.3.1.reduce.conv",
    "backbone.stages.3.1.conv2.conv": "backbone.stages.3.1.merge.conv",
}


def is_rtmdet(layers: Sequence[Convolution]) -> bool:
    """Whether a graph's convolutions are an RTMDet's, by their names."""
    return any(layer.name.startswith("rtmdet_head.") for layer in layers)


def module_name(operation: str) -> str:
    """The module of ours that a graph's convolution becomes.

    >>> module_name("/neck/out_convs.0/depthwise_conv/conv/Conv_output_0")
    'neck.out.0.depthwise.conv'
    >>> module_name("/backbone/stage1/stage1.0/pointwise_conv/conv/Conv_output_0")
    'backbone.stages.0.3.pointwise.conv'
    """
    parts = re.sub(r"/Conv(_output_\d+)?$", "", operation).strip("/").split("/")
    # A list's folder comes before its members: "blocks/blocks.0".
    kept = [
        part
        for part, following in zip(parts, [*parts[1:], ""], strict=True)
        if not following.startswith(f"{part}.")
    ]
    name = _BEGINNINGS(".".join(kept))
    name = ".".join(_PARTS.get(part, part) for part in name.split("."))
    return _POOLING.get(name, name)


def rtmdet_state(layers: Sequence[Convolution], table: RTMDetTable, source: Path) -> State:
    """The weights of our network out of a graph's convolutions.

    The published networks take BGR; the channels of the first convolution change places, so that
    ours takes RGB as all networks here.

    Raises:
        WeightsError: a convolution is missing, unknown or of another shape.
    """
    names = {layer.name: module_name(layer.name) for layer in layers}
    state = state_of_convolutions(RTMDet(table), layers, names, source)
    state[_FIRST] = state[_FIRST].flip(1).contiguous()
    return state
