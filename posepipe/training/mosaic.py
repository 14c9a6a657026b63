"""Mosaics: what a detector trains on, made of whole pictures at random sizes and places."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from posepipe.core.affine import Affine
from posepipe.core.boxes import area, clip
from posepipe.recipe import Table
from posepipe.training.samples import DetectionSample


class MosaicTable(Table, frozen=True):
    """The recipe's table ``[training.mosaic]``.

    Attributes:
        side: width and height of a mosaic in pixels.
        four: probability of four pictures in one, else one.
        zoom: smallest and largest size of a picture relative to filling its tile.
        smallest: boxes with a shorter side below this many pixels are blotted out, not learnt.
        brightness: largest relative change of brightness.
        fill: RGB outside pictures and over ignored regions.
    """

    side: int = 384
    four: float = 0.6
    zoom: tuple[float, float] = (0.8, 2.0)
    smallest: float = 8.0
    brightness: float = 0.3
    fill: tuple[int, int, int] = (123, 116, 103)


def draw_mosaic(
    sets: Sequence[Sequence[DetectionSample]],
    shares: Sequence[float],
    table: MosaicTable,
    generator: np.random.Generator,
) -> DetectionSample:
    """One picture or four in a square, each zoomed, shifted and at times mirrored at random.

    Ignored regions, people cut to less than a third by a tile's edge and people too small to learn
    are blotted out, so that nothing that looks like a person counts as background.
    """
    side = table.side
    canvas = np.full((side, side, 3), table.fill, dtype=np.uint8)
    split_x = split_y = side
    if generator.random() < table.four:
        split_x, split_y = (int(side * share) for share in generator.uniform(0.35, 0.65, 2))
    kept: list[npt.NDArray[np.float64]] = []
    for left, right in ((0, split_x), (split_x, side)):
        for top, bottom in ((0, split_y), (split_y, side)):
            if right > left and bottom > top:
                tile = _tile(sets, shares, (right - left, bottom - top), table, generator)
                canvas[top:bottom, left:right] = tile.pixels
                kept.append(tile.boxes_xyxy + np.array([left, top, left, top]))
    return DetectionSample(canvas, np.concatenate(kept), np.zeros((0, 4)))


def _tile(
    sets: Sequence[Sequence[DetectionSample]],
    shares: Sequence[float],
    size_wh: tuple[int, int],
    table: MosaicTable,
    generator: np.random.Generator,
) -> DetectionSample:
    chosen = sets[int(generator.choice(len(sets), p=np.asarray(shares) / np.sum(shares)))]
    sample = chosen[int(generator.integers(len(chosen)))]
    size = np.array(sample.pixels.shape[1::-1], dtype=np.float64)
    fit = float((np.array(size_wh) / size).min())
    zoom = fit * math.exp(generator.uniform(*np.log(table.zoom)))
    window = np.array(size_wh) / zoom  # in pixels of the picture
    low = generator.uniform(np.minimum(0, size - window), np.maximum(0, size - window))
    to_tile = Affine.from_box([*low, *(low + window)], size_wh)
    if generator.random() < 0.5:
        to_tile = to_tile.then(Affine.mirror(size_wh[0]))
    pixels = to_tile.warp(sample.pixels, size_wh, fill=table.fill, antialias=True)
    gain = generator.uniform(1 - table.brightness, 1 + table.brightness) * generator.uniform(
        0.9, 1.1, 3
    )
    pixels = np.clip(pixels * gain, 0, 255).astype(np.uint8)
    whole = _moved(sample.boxes_xyxy, to_tile)
    boxes = clip(whole, size_wh).astype(np.float64)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=1e9)
    learnt = (area(boxes) > area(whole) / 3) & (sides >= table.smallest)
    blots = np.concatenate([_moved(sample.ignored_xyxy, to_tile), boxes[~learnt]])
    return DetectionSample(
        _blotted(pixels, blots, boxes[learnt], table.fill), boxes[learnt], np.zeros((0, 4))
    )


def _moved(boxes_xyxy: npt.NDArray[np.float64], to_tile: Affine) -> npt.NDArray[np.float64]:
    """Boxes through an upright map; edges are half a pixel from pixel centres."""
    corners = to_tile.apply(boxes_xyxy.reshape(-1, 2, 2) - 0.5) + 0.5
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=-1)


def _blotted(
    pixels: npt.NDArray[np.uint8],
    blots_xyxy: npt.NDArray[np.float64],
    spared_xyxy: npt.NDArray[np.float64],
    fill: tuple[int, int, int],
) -> npt.NDArray[np.uint8]:
    """The picture with some boxes painted over, others left as they are where the two overlap."""
    painted = pixels.copy()
    for boxes, source in ((blots_xyxy, None), (spared_xyxy, pixels)):
        for x1, y1, x2, y2 in np.clip(np.round(boxes), 0, 1e6).astype(int):
            painted[y1:y2, x1:x2] = fill if source is None else source[y1:y2, x1:x2]
    return painted
