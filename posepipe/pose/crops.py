"""People cut out of an image, each in a crop of one size, undistorted (CPN, section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from posepipe.core.affine import Affine
from posepipe.core.boxes import Detections, extend, grow_to_aspect
from posepipe.core.warp_plans import upright_inverses
from posepipe.networks.normalising import Normalisation
from posepipe.zoo.bounds import Deviation, Level, Number
from posepipe.zoo.recipe import Table

CropSide = Annotated[int, Meta(ge=-2048, le=2048)]
Margin = Annotated[float, Meta(ge=-0.4, le=10)]


class PreprocessingTable(Table, frozen=True):
    """The recipe's table ``[preprocessing]`` of a pose network.

    Attributes:
        input_size_wh: width and height of a crop in pixels.
        margins_xy: what is added to each side of a box before it grows to the crop's shape, as a
            share of its width and height. Both public CPN code bases: 0.1 and 0.15.
        fill: RGB outside the image: the mean colour.
        colour_order: what the network was trained on.
        mean: per channel, 0...255, in the network's own order; subtracted.
        std: likewise; divided by.
        antialias: average pixels where a crop shrinks a person by 2 or more; for exact windows.
        window: "exact" (edges lie anywhere) or "whole_pixels", as both public CPN code bases cut:
            see `whole_pixel_windows`.
        keypoint_origin: where (0, 0) lies for the keypoints that come out: in the first pixel's
            centre, as everywhere in this project, or in its corner, as in both public CPN code
            bases, whose keypoints are thus half a pixel larger in x and y.
    """

    input_size_wh: tuple[CropSide, CropSide]
    margins_xy: tuple[Margin, Margin] = (0.1, 0.15)
    fill: tuple[Level, Level, Level] = (123, 116, 103)
    colour_order: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[Number, Number, Number] = (123.675, 116.28, 103.53)
    std: tuple[Deviation, Deviation, Deviation] = (58.395, 57.12, 57.375)
    antialias: bool = True
    window: Literal["exact", "whole_pixels"] = "exact"
    keypoint_origin: Literal["pixel_centre", "pixel_corner"] = "pixel_centre"

    def __post_init__(self) -> None:
        if any(side <= 0 or side % 32 for side in self.input_size_wh):
            raise ValueError(
                f"input_size_wh must be positive multiples of 32, got {self.input_size_wh}"
            )

    @property
    def normalisation(self) -> Normalisation:
        """What makes a network's input of crops, which are uint8 RGB."""
        return Normalisation(self.mean, self.std, bgr=self.colour_order == "bgr")


@dataclass(frozen=True, eq=False)
class Crops:
    """The people of one image, cut out.

    Attributes:
        pixels: (N, h, w, 3) uint8 RGB; N = 0 is legal.
        to_image: (N, 2, 3) float64, `Affine` matrices from crop pixels to the image's pixels,
            counted from where the recipe says.
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


def whole_pixel_windows(
    boxes_xyxy: npt.ArrayLike,
    margins_xy: tuple[float, float],
    crop_wh: tuple[int, int],
    image_wh: tuple[int, int],
) -> npt.NDArray[np.int64]:
    """(N, 4) windows of whole pixels around (N, 4) boxes, by both public CPN code bases' rule.

    Margins are added and the short side grows, as for exact windows. Then a window shrinks about
    its centre until it lies inside the image widened by its longer side on all four sides, less
    one pixel; so an enormous box loses its outer parts. Corners are rounded down.

    Boxes are float32 numbers and the operations have the code bases' order, since a corner that
    comes out as a whole number depends on both. Where their rule leaves no pixel (a box without
    area or far outside the image) a window here is one pixel wide.

    Args:
        boxes_xyxy: (N, 4) in the image's pixels.
        margins_xy: see `PreprocessingTable`.
        crop_wh: width and height of the crop, whose shape the windows have but for the rounding.
        image_wh: width and height of the image.

    Returns:
        (N, 4) int64 x1, y1, x2, y2 in the image's pixels; they may be negative or beyond it.

    >>> whole_pixel_windows([[100.5, 60.25, 281.25, 380.65]], (0.1, 0.15), (192, 256), (640, 480))
    array([[ 34,  12, 347, 428]])
    """
    boxes = np.asarray(boxes_xyxy, dtype=np.float32).reshape(-1, 4)
    padding = max(image_wh)
    corner = (boxes[:, :2] + np.float32(padding)).astype(np.float64)  # in the widened image
    sides = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    centre = corner + sides / 2
    with_margins = sides * (1 + 2 * np.array(margins_xy))
    crop = np.array(crop_wh, dtype=np.float64)
    # The side that must not grow, in the image and in the crop.
    people, chosen = np.arange(len(boxes)), (with_margins / crop).argmax(axis=1)
    side, crop_side = with_margins[people, chosen], crop[chosen]
    room = np.minimum(centre, np.array(image_wh) + 2 * padding - centre)
    limit = (room / crop * crop_side[:, None] * 2 - 1).min(axis=1)
    side = np.minimum(side, limit).clip(min=0)
    half = (side / 2 / crop_side)[:, None] * crop
    low, high = np.floor(centre - half), np.floor(centre + half)
    window = np.concatenate([low, np.maximum(high, low + 1)], axis=1)
    return window.astype(np.int64) - padding


def cut_crops(
    image: npt.NDArray[np.uint8], detections: Detections, table: PreprocessingTable
) -> Crops:
    """Every detected person of an image in a crop of the network's input size.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: boxes in the image's pixels; they may reach outside, and there may be none.
        table: size, margins, colour outside, kind of window.
    """
    width, height = table.input_size_wh
    boxes = detections.boxes_xyxy
    if not len(boxes):
        return Crops(np.empty((0, height, width, 3), np.uint8), np.empty((0, 2, 3)))
    if table.window == "whole_pixels":
        image_wh = (image.shape[1], image.shape[0])
        whole = whole_pixel_windows(boxes, table.margins_xy, table.input_size_wh, image_wh)
        windows = whole.astype(np.float64)
    else:
        windows = crop_windows(boxes, table.margins_xy, width / height)
    pixels = np.empty((len(windows), height, width, 3), dtype=np.uint8)
    to_image = np.empty((len(windows), 2, 3), dtype=np.float64)
    for person, window in enumerate(windows):
        to_crop = Affine.from_box(window, table.input_size_wh)
        to_image[person] = crop_to_image(to_crop, table).matrix
        if table.window == "whole_pixels":
            part = _cut_out(image, window.astype(int), table.fill)
            pixels[person] = cv2.resize(part, table.input_size_wh, interpolation=cv2.INTER_LINEAR)
        else:
            to_crop.warp(
                image,
                table.input_size_wh,
                fill=table.fill,
                antialias=table.antialias,
                out=pixels[person],
            )
    return Crops(pixels, to_image)


def crop_to_image(to_crop: Affine, table: PreprocessingTable) -> Affine:
    """The map from a crop's pixels to the image's, from the map that makes the crop.

    Both public CPN code bases give the cell (x, y) the point (4x + 2, 4y + 2) of a crop and scale
    that to the window; for them an image's (0, 0) is its first pixel's corner.
    """
    to_image = to_crop.inverse
    if table.keypoint_origin == "pixel_corner":
        return to_image.then(Affine(np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])))
    return to_image


def crops_to_image(
    boxes_xyxy: npt.NDArray[np.float64], table: PreprocessingTable
) -> npt.NDArray[np.float64]:
    """(N, 2, 3): `crop_to_image` of crops that each show a box, (N, 4) of positive area."""
    to_image = upright_inverses(boxes_xyxy, table.input_size_wh)
    if table.keypoint_origin == "pixel_corner":
        to_image[:, :, 2] += 0.5
    return to_image


def _cut_out(
    image: npt.NDArray[np.uint8], window: npt.NDArray[np.int_], fill: tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    """A window of whole pixels of an image; `fill` where it reaches outside."""
    x1, y1, x2, y2 = (int(edge) for edge in window)
    height, width = image.shape[:2]
    part = np.full((y2 - y1, x2 - x1, 3), fill, dtype=np.uint8)
    left, right = (min(max(x, 0), width) for x in (x1, x2))
    top, bottom = (min(max(y, 0), height) for y in (y1, y2))
    part[top - y1 : bottom - y1, left - x1 : right - x1] = image[top:bottom, left:right]
    return part
