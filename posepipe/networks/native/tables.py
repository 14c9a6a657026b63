"""What the recipe of a native detectron2 network says, and what else its weights files hold."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from posepipe.zoo.bounds import Channels, Count, Deviation, Number
from posepipe.zoo.recipe import Table

Side = Annotated[int, Meta(ge=32, le=8192)]
PerChannel = tuple[Number, Number, Number]
PerChannelDeviation = tuple[Deviation, Deviation, Deviation]

# What older files hold besides their weights; here it is worked out from the recipe.
NOT_WEIGHTS = (
    "pixel_mean",
    "pixel_std",
    "proposal_generator.anchor_generator.",
    "anchor_generator.",
)


class BackboneTable(Table, frozen=True):
    """Those fields of ``[network]`` that say what backbone and pyramid are.

    Weights have detectron2's own names. The defaults are those of its model zoo's R50-FPN.

    Attributes:
        depth: layers of the ResNet.
        groups: of its 3x3 convolutions: 1, and 32 in a ResNeXt-101 32x8d.
        width_per_group: of those convolutions' channels in res2: 64, and 8 in 32x8d.
        backbone_channels: that come out of res2; later stages double them.
        stride_in_1x1: bottlenecks halve their input in the first 1x1 convolution, as in the ResNets
            of MSRA that detectron2's R50 and R101 start from, and not in the 3x3 one.
        channels: of the pyramid, and of RetinaNet's head.
    """

    depth: Literal[50, 101, 152] = 50
    groups: Count = 1
    width_per_group: Count = 64
    backbone_channels: Channels = 256
    stride_in_1x1: bool = True
    channels: Channels = 256


class NetworkTable(BackboneTable, frozen=True):
    """The table ``[network]`` of a detector with the backend "detectron2_native".

    Attributes:
        architecture: the box part; Mask and Keypoint R-CNN have Faster or Cascade R-CNN's.
        features: what anchors and RoIs see: a pyramid ("fpn"); the backbone's fourth stage, the
            fifth being run for each RoI ("c4"); or the fifth stage, dilated to stride 16 ("dc5").
        classes: background not counted.
        hidden: length of the vectors in the box head.
        unused_head: a further head that the weights have and that is not run; weights without it
            are those of another network.

    Raises:
        ValueError: a Cascade R-CNN or a RetinaNet without a pyramid.
    """

    architecture: Literal["faster_rcnn", "cascade_rcnn", "retinanet"] = "faster_rcnn"
    features: Literal["fpn", "c4", "dc5"] = "fpn"
    classes: Channels = 80
    hidden: Channels = 1024
    unused_head: Literal["", "mask", "keypoint"] = ""

    def __post_init__(self) -> None:
        if self.features != "fpn" and self.architecture != "faster_rcnn":
            raise ValueError(f"a {self.architecture} needs features = 'fpn'")


class PreprocessingTable(Table, frozen=True):
    """The table ``[preprocessing]`` of the backend "detectron2_native"; detectron2's own defaults.

    Attributes:
        short_side: the image's shorter side in the network, in pixels, …
        long_side: … unless the longer one would exceed this.
        colour_order: of the channels that the network sees.
        mean: in that order, subtracted from bytes 0…255.
        std: in that order, divides them then; 57.375, 57.12, 58.395 for the ResNeXts.
    """

    short_side: Side = 800
    long_side: Side = 1333
    colour_order: Literal["bgr", "rgb"] = "bgr"
    mean: PerChannel = (103.53, 116.28, 123.675)
    std: PerChannelDeviation = (1.0, 1.0, 1.0)
