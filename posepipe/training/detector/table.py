"""The recipe's table ``[training]`` of a detector."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from posepipe.training.detector.mosaic import DetectorAugmentTable, MosaicTable
from posepipe.training.images import CacheKind
from posepipe.training.tables import TrainingTable
from posepipe.zoo.bounds import Large, Number

BoxLoss = Literal["smooth_l1", "giou"]


class DetectorTrainingTable(TrainingTable, frozen=True):
    """``[training]`` of a detector; a sample is an image, or a mosaic of images.

    Of the common fields, `frozen_norm` is about the backbone's batch normalisations here: a new box
    head's have no statistics to keep.

    Attributes:
        images: whole images, or mosaics; see `posepipe.training.detector.mosaic`.
        sizes: short sides in pixels of whole images, one drawn for each (multi-scale training);
            () for the recipe's own. The recipe's `long_side` limits them.
        mosaic: see `MosaicTable`.
        augment: see `DetectorAugmentTable`.
        ignore_overlap: background anchors and RoIs of which an ignored region covers at least this
            share are left out.
        box_loss: of the box head: torchvision's "smooth_l1", or "giou". The RPN's is "smooth_l1".
        box_weight: factor on the box head's box loss; a "giou" wants about 10.
        ohem: the RoIs with the largest losses learn, instead of random ones of which a quarter are
            people at most (Shrivastava et al. 2016; in CPN's table 2).
        ohem_nms: IoU above which two such RoIs count as one; 1 for never.
        cache: whether decoded images stay in memory.
    """

    images: Literal["whole", "mosaic"] = "whole"
    sizes: Annotated[tuple[Large, ...], Meta(max_length=100)] = ()
    mosaic: MosaicTable = MosaicTable()
    augment: DetectorAugmentTable = DetectorAugmentTable()
    ignore_overlap: Number = 0.5
    box_loss: BoxLoss = "smooth_l1"
    box_weight: Number = 1.0
    ohem: bool = False
    ohem_nms: Number = 0.7
    cache: CacheKind = "memory"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sizes and self.images == "mosaic":
            raise ValueError("sizes are of whole images: those of a mosaic vary by mosaic.zoom")
        if not all(32 <= side <= 8192 for side in self.sizes):
            raise ValueError(f"sizes must lie between 32 and 8192, got {list(self.sizes)}")
        for name in ("ignore_overlap", "ohem_nms"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in (0, 1], got {getattr(self, name)}")
        if not self.box_weight >= 0:
            raise ValueError(f"box_weight must be 0 or more, got {self.box_weight}")
        if self.frozen_stages > 4:
            raise ValueError(f"frozen_stages is at most 4, got {self.frozen_stages}")
