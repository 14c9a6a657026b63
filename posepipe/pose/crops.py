"""People cut out of a picture, each in a crop of one size, undistorted (CPN, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from posepipe.core.affine import Affine
from posepipe.core.boxes import Detections, extend, grow_to_aspect
from posepipe.recipe import Table


class PreprocessingTable(Table, frozen=True):
    """The recipe's table ``[preprocessing]`` of a pose network.

    Attributes:
        input_size_wh: width and height of a crop in pixels.
        margins_xy: what is added to each side of a box before it grows to the crop's shape, as a
            share of its width and height. Both public CPN code bases: 0.1 and 0.15.
        fill: RGB outside the picture: the mean colour.
        colour_order: what the network was trained on.
        mean: per channel, 0...255, in the network's own order; subtracted.
        std: likewise; divided by.
        antialias: average pixels where a crop shrinks a person by 2 or more.
    """

    input_size_wh: tuple[int, int]
    margins_xy: tuple[float, float] = (0.1, 0.15)
    fill: tuple[int, int, int] = (123, 116, 103)
    colour_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    antialias: bool = True

    def __post_init__(self) -> None:
        if any(side <= 0 or side % 32 for side in self.input_size_wh):
            raise ValueError(
                f"input_size_wh must be positive multiples of 32, got {self.input_size_wh}"
            )


@dataclass(frozen=True, eq=False)
class Crops:
    """The people of one picture, cut out.

    Attributes:
        pixels: (N, h, w, 3) uint8 RGB; N = 0 is legal.
        to_image: (N, 2, 3) float64, `Affine` matrices from crop pixels to picture pixels.
    """

    pixels: npt.NDArray[np.uint8]
    to_image: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.pixels)


def crop_windows(
    boxes_xyxy: npt.ArrayLike, margins_xy: tuple[float, float], aspect_wh: float
) -> npt.NDArray[np.float64]:
    """(N, 4) windows of one shape around (N, 4) boxes: margins added, the short side grown.

    A box without area becomes one of a single pixel about its centre, so that every box has a crop.

    >>> crop_windows([[10, 10, 40, 50]], (0.0, 0.0), 0.75).tolist()
    [[10.0, 10.0, 40.0, 50.0]]
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float64).reshape(-1, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum((boxes[:, 2:] - boxes[:, :2]) / 2, 0.5)
    solid = np.concatenate([centre - half, centre + half], axis=-1)
    return grow_to_aspect(extend(solid, margins_xy), aspect_wh).astype(np.float64)


def cut_crops(
    image: npt.NDArray[np.uint8], detections: Detections, table: PreprocessingTable
) -> Crops:
    """Every detected person of a picture in a crop of the network's input size.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: boxes in the picture's pixels; they may reach outside, or be nobody's.
        table: size, margins, colour outside.
    """
    width, height = table.input_size_wh
    windows = crop_windows(detections.boxes_xyxy, table.margins_xy, width / height)
    maps = [Affine.from_box(window, table.input_size_wh) for window in windows]
    pixels = np.empty((len(maps), height, width, 3), dtype=np.uint8)
    to_image = np.empty((len(maps), 2, 3), dtype=np.float64)
    for person, to_crop in enumerate(maps):
        pixels[person] = to_crop.warp(
            image, table.input_size_wh, fill=table.fill, antialias=table.antialias
        )
        to_image[person] = to_crop.inverse.matrix
    return Crops(pixels, to_image)


def network_input(pixels: Tensor, table: PreprocessingTable) -> Tensor:
    """(B, 3, h, w) float32 normalised images in channels_last, of (B, h, w, 3) uint8 RGB crops.

    Runs on the device of `pixels`.
    """
    images = pixels.permute(0, 3, 1, 2).float()  # (B, 3, h, w); already channels_last in memory
    if table.colour_order == "bgr":
        images = images.flip(1)
    mean = images.new_tensor(table.mean)[:, None, None]
    std = images.new_tensor(table.std)[:, None, None]
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)
