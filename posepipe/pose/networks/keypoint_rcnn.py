"""What a recipe says of a Keypoint R-CNN; `pose/keypoint_rcnn.py` runs one."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from posepipe.networks.native.tables import BackboneTable
from posepipe.zoo.bounds import Channels
from posepipe.zoo.recipe import Table


class KeypointRCNNTable(Table, frozen=True):
    """The table ``[network]`` of a pose recipe with ``backend = "torchvision"``.

    Attributes:
        backend: "torchvision".
        architecture: torchvision's own name.
        batch_norm_eps: added to variances; torchvision's published weights need 0.
    """

    backend: Literal["torchvision"]
    architecture: Literal["keypointrcnn_resnet50_fpn"] = "keypointrcnn_resnet50_fpn"
    batch_norm_eps: Annotated[float, Meta(ge=0, le=1)] = 1e-5


class NativeKeypointRCNNTable(BackboneTable, frozen=True):
    """The table ``[network]`` of a pose recipe with ``backend = "detectron2_native"``.

    Attributes:
        backend: "detectron2_native": detectron2's network, which runs without detectron2.
        architecture: there is one.
        keypoint_channels: of the eight convolutions of the keypoint head.
    """

    backend: Literal["detectron2_native"] = "detectron2_native"
    architecture: Literal["keypoint_rcnn"] = "keypoint_rcnn"
    keypoint_channels: Channels = 512


class KeypointRCNNDecoding(Table, frozen=True):
    """The table ``[decoding]`` of a Keypoint R-CNN: there is nothing to choose.

    Attributes:
        codec: for the record.
        flip: always false; mirror images are not used.
    """

    codec: Literal["keypoint_rcnn"] = "keypoint_rcnn"
    flip: bool = False

    def __post_init__(self) -> None:
        if self.flip:
            raise ValueError("a Keypoint R-CNN cannot use mirror images: leave decoding.flip out")
