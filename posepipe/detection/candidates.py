"""What every detector hands over: all boxes of all classes of an image, before NMS.

NMS, the top 100 and the choice of the persons come later and are the same for every detector
(`posepipe.detection.stage`). So an ensemble of detectors, sizes and mirror images means: put their
candidates together, then NMS.

**Class numbers are COCO's category ids**, 1 (person) to 90 (toothbrush), with COCO's gaps. That is
torchvision's own numbering; detectron2 counts its 80 classes without gaps, which its adapter
converts. A detector that knows only people has the single class 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt
from msgspec import Meta
from torch import Tensor

from posepipe.core.shapes import check_same_length, checked
from posepipe.zoo.bounds import Boxes
from posepipe.zoo.recipe import Table

MOST_COMPILED_SHAPES = 4
"""Of padded images: each takes long to compile, and four are those of 80 % of COCO's images."""
MOST_RECORDED_SHAPES = 64
"""Likewise; at the default detector's two scales there are 50."""
PERSON = 1
"""The class number of a person."""

Ready = TypeVar("Ready")
Pixels = npt.NDArray[np.uint8]


class DetectorTable(Table, frozen=True):
    """The table ``[detector]`` of a detector's recipe: which library runs it, and how.

    Attributes:
        backend: the library; "detectron2_native" is detectron2's networks without detectron2.
        config: detectron2 only: a YAML file, relative to the recipe, or a configuration's name in
            its model zoo, such as ``COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml``.
        category_ids: not torchvision: the COCO category id of each class of the network, in its
            order; empty for the 80 classes of COCO, or the one class person.
        batch_norm_eps: torchvision only: added to variances in place of the network's own 1e-5.
            torchvision's published weights of its first two ResNet-50 FPN networks, "COCO_V1",
            need 0, which its own loader sets as well.
        torch_precision: what precision "auto" is where torch runs the network: fp32 for those that
            bf16 makes hardly faster.
    """

    backend: Literal["torchvision", "rtmdet", "detectron2", "detectron2_native"] = "torchvision"
    config: str = ""
    category_ids: Annotated[tuple[Boxes, ...], Meta(max_length=10_000)] = ()
    batch_norm_eps: Annotated[float, Meta(ge=0, le=1)] | None = None
    torch_precision: Literal["auto", "fp32", "bf16"] = "auto"


class CandidatesTable(Table, frozen=True):
    """The table ``[candidates]`` of a detector's recipe.

    Attributes:
        min_score: boxes that do not score higher are not handed over. 0.05 is torchvision's and
            detectron2's own default.
    """

    min_score: Annotated[float, Meta(ge=0, lt=1)] = 0.05


@dataclass(frozen=True, eq=False)
class Candidates:
    """The boxes of all classes that a detector proposes for one image; none is a legal answer.

    Attributes:
        boxes_xyxy: (N, 4) float32 pixels of the image as it was given, continuous edges.
        scores: (N,) float32 in [0, 1].
        classes: (N,) int64, COCO's category ids.

    Raises:
        ValueError: a wrong shape, lengths that differ, or a value that is not finite.
    """

    boxes_xyxy: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        fields = {
            "boxes_xyxy": checked("boxes_xyxy", self.boxes_xyxy, ("N", 4), np.float32),
            "scores": checked("scores", self.scores, ("N",), np.float32),
            "classes": checked("classes", self.classes, ("N",), np.int64),
        }
        check_same_length(**fields)
        for name, array in fields.items():
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.scores)

    @classmethod
    def none(cls) -> Candidates:
        """Nothing was found."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))

    def mirrored(self, width: int) -> Candidates:
        """The candidates in the mirror image of an image `width` pixels wide.

        >>> Candidates([[10, 0, 30, 5]], [0.5], [1]).mirrored(100).boxes_xyxy.tolist()
        [[70.0, 0.0, 90.0, 5.0]]
        """
        x1, y1, x2, y2 = self.boxes_xyxy.T
        mirrored = np.stack([width - x2, y1, width - x1, y2], axis=1)
        return Candidates(mirrored, self.scores, self.classes)


def pooled(parts: Sequence[Candidates]) -> Candidates:
    """The candidates of several detectors, sizes or mirror images of one image, together.

    They keep their order; no parts give no candidates.
    """
    if not parts:
        return Candidates.none()
    if len(parts) == 1:
        return parts[0]
    return Candidates(
        np.concatenate([part.boxes_xyxy for part in parts]),
        np.concatenate([part.scores for part in parts]),
        np.concatenate([part.classes for part in parts]),
    )


@dataclass(frozen=True)
class Origin:
    """What a detector consists of, for the record in boxes.json.

    Attributes:
        model: the recipe's name.
        backend: the library, with its version.
        weights_sha256: of the weights file; "" for weights that come from no file.
        precision: of its convolutions, as `posepipe.networks.devices` names it.
    """

    model: str
    backend: str
    weights_sha256: str
    precision: str = "fp32"


@dataclass(frozen=True, eq=False)
class DetectorInput:
    """An image at the size at which a network sees it.

    Attributes:
        pixels: (h, w, 3) uint8, in the channel order that the network wants.
        size_wh: width and height of the image as it was given.
        pinned: (H, W, 3) uint8, the pixels padded as the network wants them, where a CUDA GPU
            fetches them by itself; None elsewhere.
    """

    pixels: npt.NDArray[np.uint8]
    size_wh: tuple[int, int]
    pinned: Tensor | None = None

    def in_given_pixels(self, boxes_xyxy: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) in the network's pixels, converted to those of the image as given."""
        height, width = self.pixels.shape[:2]
        given, seen = np.array([self.size_wh * 2, (width, height) * 2], np.float32)
        boxes: npt.NDArray[np.float32] = boxes_xyxy * (given / seen)
        return boxes


class Detector(Protocol[Ready]):
    """A network that finds boxes, on its device, whatever library it comes from."""

    @property
    def origin(self) -> Origin:
        """What the detector consists of."""
        ...

    def prepare(self, image: npt.NDArray[np.uint8], *, scale: float = 1.0) -> Ready:
        """The network's input, made on the CPU; runs in threads.

        Args:
            image: (H, W, 3) uint8 RGB.
            scale: the network sees the image `scale` times as large as the model's recipe says;
                the boxes still come back in the pixels of `image`.
        """
        ...

    def __call__(self, batch: Sequence[Ready]) -> list[Candidates]:
        """The candidates of each prepared image: same length, same order."""
        ...


@runtime_checkable
class Starting(Protocol):
    """A detector that can leave its device at work and come back for the results."""

    @property
    def ahead(self) -> int:
        """See `posepipe.networks.runtimes.base.starts_ahead`."""
        ...

    def start(self, batch: Sequence[Any], *, alone: bool = False) -> Callable[[], list[Candidates]]:
        """Give a batch to the device; the function returned waits for what a call would return.

        Args:
            batch: prepared images.
            alone: see `posepipe.networks.runtimes.base.RuntimeNetwork.start`.
        """
        ...


@runtime_checkable
class Compilable(Protocol):
    """A detector whose network torch.compile can compile."""

    def compile(self, batch_size: int) -> None:
        """Have the network compiled as images come, of the first few shapes of padded images.

        Args:
            batch_size: the most images that go through it together.

        Raises:
            OptionError: another runtime than torch runs it.
        """
        ...


@runtime_checkable
class Recordable(Protocol):
    """A detector of whose work a CUDA GPU can be given recordings, see `TwoSizes`."""

    def record(self, batch_size: int) -> bool:
        """Have its network recorded as images come, where it runs on CUDA: whether it does.

        Args:
            batch_size: the most images that go through it together.
        """
        ...


def started(
    detector: Detector[Ready], batch: Sequence[Ready], *, alone: bool = False
) -> Callable[[], list[Candidates]]:
    """A detector's candidates of a batch, perhaps still being computed: see `Starting`."""
    if isinstance(detector, Starting):
        return detector.start(batch, alone=alone)
    found = detector(batch)
    return lambda: found


def by_shape(shapes: Sequence[tuple[int, int]]) -> list[list[int]]:
    """The positions of equal shapes, grouped in order of first appearance.

    Images of one batch are padded to its largest, and padding changes what a network sees near
    the border. Batching equal (padded) shapes alone gives each image the boxes that it would
    have alone.

    >>> by_shape([(4, 4), (8, 4), (4, 4)])
    [[0, 2], [1]]
    """
    groups: dict[tuple[int, int], list[int]] = {}
    for position, shape in enumerate(shapes):
        groups.setdefault(shape, []).append(position)
    return list(groups.values())


def alike(
    batch: Sequence[DetectorInput], padded_shape: Callable[[Pixels], tuple[int, int]]
) -> list[tuple[list[int], list[DetectorInput]]]:
    """The images that run together, with their positions in the batch: see `by_shape`.

    Args:
        batch: the images.
        padded_shape: height and width to which a network pads an image's pixels.
    """
    groups = by_shape([padded_shape(ready.pixels) for ready in batch])
    return [(group, [batch[position] for position in group]) for group in groups]


def padded_together(batch: Sequence[DetectorInput], shape_hw: tuple[int, int], fill: int) -> Pixels:
    """(B, h, w, 3): images as one array, padded with a grey level at the right and the bottom.

    A single image that needs no padding is not copied.
    """
    first = batch[0].pixels
    if len(batch) == 1 and first.shape[:2] == shape_hw:
        return first[None]
    pixels = np.empty((len(batch), *shape_hw, 3), np.uint8)
    for place, ready in zip(pixels, batch, strict=True):
        pad(ready.pixels, place, fill)
    return pixels


def pad(pixels: Pixels, place: Pixels, fill: int) -> None:
    """Put an image at the upper left of a larger one, and a grey level into the rest."""
    height, width = pixels.shape[:2]
    place[:height, :width] = pixels
    place[height:] = fill
    place[:height, width:] = fill
