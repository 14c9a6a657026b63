"""Images that a detector trains on: whole ones at random sizes, or mosaics of them.

What is neither a person nor background (crowds, doubtful boxes, people cut off or too small to
learn) is either handed on as ignored regions, which matching leaves out, or blotted out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from posepipe.core.affine import Affine
from posepipe.core.boxes import area, clip
from posepipe.detection.torchvision import Preprocessing, final_size_wh
from posepipe.training.samples import DetectionSample
from posepipe.zoo.bounds import Number, Whole
from posepipe.zoo.recipe import Table

Size = Annotated[float, Meta(ge=-100, le=100)]

Boxes = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]
_LUMA = np.array([0.299, 0.587, 0.114])  # of red, green, blue: ITU-R BT.601
Draw = Callable[[np.random.Generator], DetectionSample]


class MosaicTable(Table, frozen=True):
    """The recipe's table ``[training.mosaic]`` of a detector.

    Attributes:
        side: width and height of a mosaic in pixels.
        four: probability of four images in one, else one.
        zoom: smallest and largest size of an image relative to filling its tile.
    """

    side: Annotated[int, Meta(ge=-8192, le=8192)] = 384
    four: Number = 0.6
    zoom: tuple[Size, Size] = (0.8, 2.0)

    def __post_init__(self) -> None:
        if self.side < 32 or not 0 <= self.four <= 1 or not 0 < self.zoom[0] <= self.zoom[1]:
            raise ValueError(
                "side must be at least 32, four lie in [0, 1], zoom contain the smallest and the "
                f"largest size; got {self.side}, {self.four}, {list(self.zoom)}"
            )


class DetectorAugmentTable(Table, frozen=True):
    """The recipe's table ``[training.augment]`` of a detector.

    Attributes:
        flip: probability of the mirror image.
        brightness: largest relative change of brightness; a third of it for each channel.
        saturation: largest relative change of saturation; 1 reaches from grey to double.
        grey: probability of an image without colour.
        smallest: boxes with a shorter side below this many pixels, as the network sees them, are
            not learnt, but ignored.
        ignored: what happens to ignored regions: anchors and RoIs in them are left out of the
            losses ("match"), or they are painted over with the fill colour ("blot").
        fill: RGB outside images and of blots.
    """

    flip: Number = 0.5
    brightness: Number = 0.3
    saturation: Number = 0.0
    grey: Number = 0.0
    smallest: Number = 1.0
    ignored: Literal["match", "blot"] = "match"
    fill: tuple[Whole, Whole, Whole] = (123, 116, 103)

    def __post_init__(self) -> None:
        for name in ("flip", "saturation", "grey"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {getattr(self, name)}")
        if not 0 <= self.brightness < 1 or not self.smallest > 0:
            raise ValueError(
                "brightness must lie in [0, 1), smallest must be above 0; got "
                f"{self.brightness}, {self.smallest}"
            )
        if not all(0 <= value <= 255 for value in self.fill):
            raise ValueError(f"fill must be red, green, blue in 0…255, got {list(self.fill)}")


def draw_whole(
    sample: DetectionSample,
    short_sides: Sequence[int],
    long_side: int,
    table: DetectorAugmentTable,
    generator: np.random.Generator,
) -> DetectionSample:
    """A whole image at a random size, sometimes mirrored, its brightness changed.

    Args:
        sample: the image and what is in it.
        short_sides: what its shorter side may become, in pixels, …
        long_side: … unless the longer one would exceed this; see `final_size_wh`.
        table: how much of everything.
        generator: the only source of randomness.
    """
    source = sample.pixels
    height, width = source.shape[:2]
    short_side = int(generator.choice(short_sides))
    size_wh = final_size_wh(
        (width, height), Preprocessing(short_side=short_side, long_side=long_side)
    )
    pixels = cv2.resize(source, size_wh, interpolation=cv2.INTER_LINEAR)
    to_view = Affine.from_box([0, 0, width, height], size_wh)
    if generator.random() < table.flip:
        to_view = to_view.then(Affine.mirror(size_wh[0]))
        pixels = pixels[:, ::-1]
    return _labelled(pixels.astype(np.uint8, copy=False), sample, to_view, table, generator)


def draw_mosaic(
    first: DetectionSample,
    draw_other: Draw,
    mosaic: MosaicTable,
    table: DetectorAugmentTable,
    generator: np.random.Generator,
) -> DetectionSample:
    """One image or four in a square, each zoomed, shifted and sometimes mirrored at random.

    People cut to less than a third by a tile's edge, and people too small to learn, are ignored.

    Args:
        first: an image that is in the mosaic.
        draw_other: draws the three others where there are four.
        mosaic: size, how many images, how large.
        table: what else happens to each.
        generator: the only source of randomness.
    """
    side = mosaic.side
    split_x = split_y = side
    if generator.random() < mosaic.four:
        split_x, split_y = (int(side * share) for share in generator.uniform(0.35, 0.65, 2))
    canvas = np.empty((side, side, 3), np.uint8)
    tiles: list[DetectionSample] = []
    places: list[tuple[int, int]] = []
    for left, right in ((0, split_x), (split_x, side)):
        for top, bottom in ((0, split_y), (split_y, side)):
            if right > left and bottom > top:
                sample = draw_other(generator) if tiles else first
                tile = _tile(sample, (right - left, bottom - top), mosaic, table, generator)
                canvas[top:bottom, left:right] = tile.pixels
                tiles.append(tile)
                places.append((left, top))
    shifts = [np.array([left, top, left, top]) for left, top in places]
    return DetectionSample(
        canvas,
        np.concatenate([t.boxes_xyxy + by for t, by in zip(tiles, shifts, strict=True)]),
        np.concatenate([t.ignored_xyxy + by for t, by in zip(tiles, shifts, strict=True)]),
        np.concatenate([tile.classes for tile in tiles]),
    )


def _tile(
    sample: DetectionSample,
    size_wh: tuple[int, int],
    mosaic: MosaicTable,
    table: DetectorAugmentTable,
    generator: np.random.Generator,
) -> DetectionSample:
    source = sample.pixels
    size = np.array(source.shape[1::-1], dtype=np.float64)
    fit = float((np.array(size_wh) / size).min())
    zoom = fit * math.exp(generator.uniform(*np.log(mosaic.zoom)))
    window = np.array(size_wh) / zoom  # in pixels of the image
    low = generator.uniform(np.minimum(0, size - window), np.maximum(0, size - window))
    to_tile = Affine.from_box([*low, *(low + window)], size_wh)
    if generator.random() < table.flip:
        to_tile = to_tile.then(Affine.mirror(size_wh[0]))
    pixels = to_tile.warp(source, size_wh, fill=table.fill, antialias=True)
    return _labelled(pixels, sample, to_tile, table, generator)


def _labelled(
    pixels: Pixels,
    sample: DetectionSample,
    to_view: Affine,
    table: DetectorAugmentTable,
    generator: np.random.Generator,
) -> DetectionSample:
    """A view of a sample with its boxes moved along, its brightness changed.

    Args:
        pixels: of the view.
        sample: what it is a view of.
        to_view: the upright map from the sample's image to the view.
        table: how colours change, which boxes are learnt, and what happens to the others.
        generator: draws the colours.
    """
    pixels = _recoloured(pixels, table, generator)
    size_wh = (pixels.shape[1], pixels.shape[0])
    whole = _moved(sample.boxes_xyxy, to_view)
    boxes = clip(whole, size_wh).astype(np.float64)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    learnt = (area(boxes) > area(whole) / 3) & (sides >= table.smallest)
    others = clip(_moved(sample.ignored_xyxy, to_view), size_wh)
    ignored = np.concatenate([others, boxes[~learnt]])
    ignored = ignored[area(ignored) > 0].astype(np.float64)
    if table.ignored == "blot":
        pixels = _blotted(pixels, ignored, boxes[learnt], table.fill)
        ignored = np.zeros((0, 4))
    return DetectionSample(pixels, boxes[learnt], ignored, sample.classes[learnt])


def _recoloured(
    pixels: Pixels, table: DetectorAugmentTable, generator: np.random.Generator
) -> Pixels:
    amount = table.brightness
    gains = generator.uniform(1 - amount, 1 + amount) * generator.uniform(
        1 - amount / 3, 1 + amount / 3, 3
    )
    if table.saturation or table.grey:
        saturation = generator.uniform(1 - table.saturation, 1 + table.saturation)
        saturation *= generator.random() >= table.grey
        mix = saturation * np.eye(3) + (1 - saturation) * _LUMA
        return np.asarray(cv2.transform(pixels, gains[:, None] * mix), dtype=np.uint8)
    lookup = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)  # (256, 3)
    return np.asarray(cv2.LUT(np.ascontiguousarray(pixels), lookup[None]), dtype=np.uint8)


def _moved(boxes_xyxy: Boxes, to_view: Affine) -> Boxes:
    """Boxes through an upright map; edges are half a pixel from pixel centres."""
    corners = to_view.apply(boxes_xyxy.reshape(-1, 2, 2) - 0.5) + 0.5
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1)


def _blotted(
    pixels: Pixels, blots_xyxy: Boxes, spared_xyxy: Boxes, fill: tuple[int, int, int]
) -> Pixels:
    """The image with some boxes painted over, others left intact where the two overlap."""
    painted = pixels.copy()
    for boxes, source in ((blots_xyxy, None), (spared_xyxy, pixels)):
        for x1, y1, x2, y2 in np.round(boxes).astype(int):
            painted[y1:y2, x1:x2] = fill if source is None else source[y1:y2, x1:x2]
    return painted
