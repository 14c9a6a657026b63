"""What a code base's checkpoints are: recognised, checked key by key, renamed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from posepipe.curation.importing.checkpoints import ForeignCheckpoint
from posepipe.errors import WeightsError
from posepipe.pose.crops import PreprocessingTable
from posepipe.pose.heatmaps import DecodingTable
from posepipe.pose.networks.cpn import CPN, CPNTable
from posepipe.zoo.weights import StateDict

# Blocks of the third stage of a ResNet, which differ between the three.
_DEPTHS = {6: 50, 23: 101, 36: 152}

# The mean colour that both code bases subtract, and its bytes, with which they pad; RGB.
MEAN_RGB = (122.7717, 115.9465, 102.9801)
MEAN_FILL = (123, 116, 103)

DECODING = DecodingTable(
    stride=4,
    amplitude=255.0,
    flip=True,
    blur_kernel=21,
    quarter_offset=True,
    confidence_offset=0.5,
    clamp_confidence=False,
)
"""How both code bases read keypoints off heatmaps."""


def preprocessing(input_size_wh: tuple[int, int]) -> PreprocessingTable:
    """How both code bases cut crops, with pytorch-cpn's colours."""
    return PreprocessingTable(
        input_size_wh=input_size_wh,
        margins_xy=(0.1, 0.15),
        fill=MEAN_FILL,
        colour_order="rgb",
        mean=MEAN_RGB,
        std=(255.0, 255.0, 255.0),
        antialias=False,
        window="whole_pixels",
        keypoint_origin="pixel_corner",
    )


@dataclass(frozen=True)
class Recognised:
    """What a checkpoint was found to be.

    Attributes:
        code_base: its name, with the generation where there are several.
        because: how that is known, one line each.
        network, preprocessing, decoding: the tables of the recipe that reproduces it.
        name_of: the file's name of each key of our network.
        transposed: convolutions' weights lie as (height, width, in, out).
        folded: our key of a batch normalisation's mean, by the file's name of the bias that the
            convolution before it has. It is subtracted from the mean, which has the same effect.
        ignored: the names in a file that are not weights, such as an optimizer's.
    """

    code_base: str
    because: tuple[str, ...]
    network: CPNTable
    preprocessing: PreprocessingTable
    decoding: DecodingTable
    name_of: Callable[[str], str]
    transposed: bool
    folded: Mapping[str, str]
    ignored: Callable[[str], bool]


def renamed(
    pairs: Sequence[tuple[str, str | Callable[[re.Match[str]], str]]],
) -> Callable[[str], str]:
    """A function that renames by the first of several patterns of a name's beginning that fits."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in pairs]

    def rename(key: str) -> str:
        for pattern, replacement in compiled:
            name, count = pattern.subn(replacement, key, count=1)
            if count:
                return name
        return key

    return rename


def resnet_depth(names: Iterable[str], third_stage: str) -> int:
    """The depth of the ResNet whose third stage's blocks are numbered in the names; 50 if unknown.

    Args:
        names: of all weights.
        third_stage: a pattern of their beginning up to the block's number, which it captures.
    """
    blocks = {match[1] for name in names if (match := re.match(third_stage, name))}
    return _DEPTHS.get(len(blocks), 50)


def weights_of(checkpoint: ForeignCheckpoint, recognised: Recognised, network: CPN) -> StateDict:
    """A checkpoint's weights under our network's names, every one of them checked.

    Args:
        checkpoint: the file.
        recognised: what it is.
        network: as `recognised.network` says; its numbers are not used.

    Raises:
        WeightsError: a key is unknown, of another shape, or missing; names the first.
    """
    wanted = {
        recognised.name_of(key): (key, tuple(tensor.shape))
        for key, tensor in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    of_another = f"{checkpoint.path} looks like {recognised.code_base} but is of another network"
    for name, shape in checkpoint.shapes.items():
        if recognised.ignored(name):
            continue
        if name in wanted:
            needed = wanted[name][1]
            if recognised.transposed and len(needed) == 4:
                needed = (needed[2], needed[3], needed[1], needed[0])
        elif name in recognised.folded:
            needed = wanted[recognised.name_of(recognised.folded[name])][1]
        else:
            raise WeightsError(f"{of_another}: {name!r} is unknown to it")
        if shape != needed:
            raise WeightsError(f"{of_another}: {name!r} has shape {shape}, {needed} is needed")
    for name in [*wanted, *recognised.folded]:
        if name not in checkpoint.shapes:
            raise WeightsError(f"{of_another}: it has no {name!r}")
    state = {}
    for name, (key, shape) in wanted.items():
        tensor = checkpoint.read(name).float()
        if recognised.transposed and len(shape) == 4:
            tensor = tensor.permute(3, 2, 0, 1)
        state[key] = tensor.contiguous()
    for name, key in recognised.folded.items():
        state[key] = state[key] - checkpoint.read(name).float()
    for key, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise WeightsError(
                f"{checkpoint.path}: {recognised.name_of(key)!r} has numbers that are not finite: "
                "the training had failed"
            )
    return state
