"""Detection networks: torchvision's FPN R-CNNs by name, and compact ones of our own.

All are torchvision `GeneralizedRCNN`s, so one adapter (`posepipe.detection.torchvision`) runs them.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
import torchvision
from msgspec import Meta
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.poolers import initLevelMapper

from posepipe.detection.cascade import BoxPredictor, CascadeRoIHeads, LaterStage
from posepipe.errors import WeightsError
from posepipe.networks.backbones.build import build_backbone
from posepipe.networks.backbones.cspnext import PAFPN, CSPNeXt
from posepipe.zoo.bounds import Boxes, Channels, Classes, Number
from posepipe.zoo.recipe import Table
from posepipe.zoo.weights import fit_state, read_state

Architecture = Literal[
    "fasterrcnn_cspnext_fpn",
    "fasterrcnn_mobilenet_v2_fpn",
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
]
_COMPACT = ("fasterrcnn_cspnext_fpn", "fasterrcnn_mobilenet_v2_fpn")
_WHOLE_STRIDES = 128  # pixels: twice the coarsest stride of all pyramids here


class NetworkTable(Table, frozen=True):
    """The recipe's table ``[network]`` of a detector of the torchvision backend.

    Attributes:
        architecture: torchvision's own name for it, or one of our compact detectors,
            "fasterrcnn_mobilenet_v2_fpn" and "fasterrcnn_cspnext_fpn".
        classes: number of classes, background included; person is class 1. torchvision's COCO
            weights have 91 (COCO's category ids), a detector of people alone has 2.
        channels: channels of a compact detector's pyramid.
        proposals: boxes per image that a compact detector's head looks at.
        cascade: a compact detector's: a further stage of box heads for each number, in the order
            of the stages, which is the IoU from which its RoIs count as objects; see
            `posepipe.detection.cascade`.

    Raises:
        ValueError: a cascade for another network, or IoUs that do not rise within (0, 1).
    """

    architecture: Architecture
    classes: Classes = 91
    channels: Channels = 128
    proposals: Boxes = 300
    cascade: Annotated[tuple[Number, ...], Meta(max_length=10)] = ()

    def __post_init__(self) -> None:
        if self.cascade and self.architecture not in _COMPACT:
            raise ValueError(
                f"cascade is for {' and '.join(_COMPACT)}, {self.architecture} has none"
            )
        ious = list(self.cascade)
        if ious != sorted(ious) or not all(0 < iou < 1 for iou in ious):
            raise ValueError(f"cascade must be rising IoUs in (0, 1), got {ious}")


def build_network(table: NetworkTable) -> GeneralizedRCNN:
    """A detection network with random weights, a mask head left out where there would be one."""
    if table.architecture in _COMPACT:
        backbone = CSPNeXtFPN if table.architecture == "fasterrcnn_cspnext_fpn" else MobileNetV2FPN
        return compact_detector(
            backbone(table.channels),
            classes=table.classes,
            proposals=table.proposals,
            cascade=table.cascade,
        )
    network = torchvision.models.get_model(
        table.architecture, weights=None, weights_backbone=None, num_classes=table.classes
    )
    if table.architecture.startswith("maskrcnn"):
        network.roi_heads.mask_roi_pool = None
        network.roi_heads.mask_head = None
        network.roi_heads.mask_predictor = None
    fix_roi_scales(network)
    return cast(GeneralizedRCNN, network)


@torch.no_grad()
def fix_roi_scales(network: GeneralizedRCNN) -> None:
    """Tell RoIAlign the strides of the pyramid, in place.

    torchvision's works them out from the first image that it sees, and keeps them. From a small
    one, whose sides padding changes a lot, they come out wrong, and so would all later boxes.
    """
    backbone: Any = network.backbone
    pool: Any = network.roi_heads.box_roi_pool
    training = {module: module.training for module in backbone.modules()}
    features = backbone.eval()(torch.zeros(1, 3, _WHOLE_STRIDES, _WHOLE_STRIDES))
    for module, was in training.items():
        module.training = was
    levels = [level for name, level in features.items() if name in pool.featmap_names]
    pool.scales = [level.shape[-1] / _WHOLE_STRIDES for level in levels]
    finest, coarsest = (round(-math.log2(pool.scales[place])) for place in (0, -1))
    pool.map_levels = initLevelMapper(finest, coarsest, pool.canonical_scale, pool.canonical_level)


def compact_detector(
    backbone: CSPNeXtFPN | MobileNetV2FPN,
    *,
    classes: int,
    proposals: int,
    cascade: Sequence[float] = (),
) -> FasterRCNN:
    """An FPN Faster or Cascade R-CNN that runs on a CPU and fits into a repository.

    FPN with RoIAlign as in CPN's section 3.1, at strides 8, 16, 32 and 64: the stride 4 level would
    cost more than the whole backbone. Anchors are upright, as people mostly are.

    Args:
        backbone: with its pyramid.
        classes: number of classes, background included.
        proposals: boxes per image that reach the box head.
        cascade: the IoU of each further stage of box heads, as in `NetworkTable`.
    """
    anchors = AnchorGenerator(
        sizes=((20, 32), (52, 80), (128, 200), (320, 480)),
        aspect_ratios=((0.7, 1.4, 2.6),) * 4,  # height / width
    )
    pool = MultiScaleRoIAlign(featmap_names=["0", "1", "2"], output_size=7, sampling_ratio=2)
    vector, channels = 256, backbone.out_channels
    network = FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_pre_nms_top_n_train=600,
        rpn_pre_nms_top_n_test=600,
        rpn_post_nms_top_n_train=proposals,
        rpn_post_nms_top_n_test=proposals,
        rpn_batch_size_per_image=128,
        box_roi_pool=pool,
        box_head=TwoMLPHead(channels * 7 * 7, vector),
        box_predictor=(BoxPredictor if cascade else FastRCNNPredictor)(vector, classes),
        box_batch_size_per_image=64,
    )
    if cascade:
        later = [
            LaterStage(TwoMLPHead(channels * 7 * 7, vector), BoxPredictor(vector, classes), iou)
            for iou in cascade
        ]
        network.roi_heads = CascadeRoIHeads(network.roi_heads, later)
    fix_roi_scales(network)
    return network


class CSPNeXtFPN(nn.Module):
    """RTMDet's backbone and pyramid at strides 8, 16 and 32, and one more level.

    Their normalisations are folded into the convolutions, as in the weights that they start from.

    Attributes:
        out_channels: channels of every pyramid level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.backbone = CSPNeXt(norm=False)
        self.neck = PAFPN(self.backbone.channels[1:], channels, norm=False)
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """The pyramid of (B, 3, H, W) images: levels "0", "1", "2" and "pool"."""
        levels = self.neck(self.backbone(images)[1:])
        pyramid = OrderedDict((str(place), level) for place, level in enumerate(levels))
        pyramid["pool"] = F.max_pool2d(levels[-1], 1, 2)
        return pyramid

    @property
    def stages(self) -> nn.ModuleList:
        """The backbone's."""
        return self.backbone.stages

    def load_imagenet(self, file: Path) -> None:
        """Take the weights of backbone and pyramid from an RTMDet's of `posepipe.detection.rtmdet`.

        Raises:
            WeightsError: the file is of another network.
        """
        fit_state(self, read_state(file), file, ignored=("head.",))


class MobileNetV2FPN(nn.Module):
    """MobileNetV2's features at strides 8, 16, 32, and the pyramid over them with one more level.

    Attributes:
        out_channels: channels of every pyramid level (torchvision's detectors read it).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.stages = _mobilenet_stages()
        self.fpn = FeaturePyramidNetwork([32, 96, 320], channels, extra_blocks=LastLevelMaxPool())
        self.out_channels = channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        """The pyramid of (B, 3, H, W) images: levels "0", "1", "2" and "pool"."""
        levels: OrderedDict[str, Tensor] = OrderedDict()
        for i, stage in enumerate(self.stages):
            images = stage(images)
            if i > 0:
                levels[str(i - 1)] = images
        pyramid: OrderedDict[str, Tensor] = self.fpn(levels)
        return pyramid

    def load_imagenet(self, file: Path) -> None:
        """Take the backbone's weights from a safetensors file of torchvision's mobilenet_v2.

        Raises:
            WeightsError: the file is of another network.
        """
        read_state(file)  # raises in our own words if it cannot be read
        self.stages.load_state_dict(_mobilenet_stages(file).state_dict())


def _mobilenet_stages(imagenet_weights: Path | None = None) -> nn.ModuleList:
    backbone = build_backbone("mobilenet_v2", imagenet_weights)
    stages = backbone.stages
    assert isinstance(stages, nn.ModuleList)  # noqa: S101  # a `StagedBackbone`
    return stages


# Where the stages of a MobileNetV3's backbone (large) begin, strides 4, 8, 16 and 32 as elsewhere.
_MOBILENET_V3_STAGES = (0, 4, 7, 13)
_CLASSIFIERS = ("fc.", "classifier.")


def backbone_stages(network: GeneralizedRCNN) -> list[list[nn.Module]]:
    """The backbone's four stages, up to strides 4, 8, 16 and 32; a stem belongs to the first."""
    if isinstance(network.backbone, MobileNetV2FPN | CSPNeXtFPN):
        return [[stage] for stage in network.backbone.stages]
    parts = dict(network.backbone.body.named_children())
    if "layer1" in parts:
        stem = [part for name, part in parts.items() if not name.startswith("layer")]
        return [[*stem, parts["layer1"]], *([parts[f"layer{n}"]] for n in (2, 3, 4))]
    features = list(parts.values())
    ends = (*_MOBILENET_V3_STAGES[1:], len(features))
    return [features[start:end] for start, end in zip(_MOBILENET_V3_STAGES, ends, strict=True)]


def load_imagenet(network: GeneralizedRCNN, file: Path) -> None:
    """Take the backbone's weights from a file of torchvision's classifier on the same backbone.

    For CSPNeXt it is an RTMDet's file, which has the pyramid's, too.

    Raises:
        WeightsError: no such file, a damaged one, or one of another network.
    """
    if not file.is_file():
        raise WeightsError(f"no weights file {file}")
    backbone = network.backbone
    if isinstance(backbone, MobileNetV2FPN | CSPNeXtFPN):
        backbone.load_imagenet(file)
        return
    state = {key.removeprefix("features."): value for key, value in read_state(file).items()}
    fit_state(backbone.body, state, file, ignored=_CLASSIFIERS)
