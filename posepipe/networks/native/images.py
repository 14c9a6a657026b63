"""From images to the input of detectron2's networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from posepipe.networks.native.tables import PreprocessingTable


def final_size_wh(
    size_wh: tuple[int, int], preprocessing: PreprocessingTable, scale: float = 1.0
) -> tuple[int, int]:
    """Width and height at which the network looks at an image, by detectron2's rule.

    The shorter side becomes `short_side`, or less where the longer one would exceed `long_side`;
    both times `scale`. Sizes are rounded to the nearest pixel and at least 1.

    >>> final_size_wh((640, 480), PreprocessingTable())
    (1067, 800)
    >>> final_size_wh((5000, 3), PreprocessingTable())
    (1333, 1)
    """
    short, long = preprocessing.short_side * scale, preprocessing.long_side * scale
    factor = short / min(size_wh)
    exact = [short if side == min(size_wh) else factor * side for side in size_wh]
    if max(exact) > long:
        factor = long / max(exact)
        exact = [side * factor for side in exact]
    width, height = (max(1, int(side + 0.5)) for side in exact)
    return width, height


def resized(
    image: npt.NDArray[np.uint8], preprocessing: PreprocessingTable, scale: float = 1.0
) -> npt.NDArray[np.uint8]:
    """(h, w, 3): an (H, W, 3) image at the network's size.

    Pillow's bilinear filter, which averages where an image shrinks, as in detectron2.
    """
    height, width = image.shape[:2]
    size_wh = final_size_wh((width, height), preprocessing, scale)
    if size_wh != (width, height):
        image = np.asarray(Image.fromarray(image).resize(size_wh, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(image)


def normalised(
    pixels: npt.NDArray[np.uint8], preprocessing: PreprocessingTable, device: torch.device
) -> Tensor:
    """(3, h, w) float32 in the network's colour order, of (h, w, 3) RGB bytes."""
    if preprocessing.colour_order == "bgr":
        pixels = pixels[:, :, ::-1]
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).to(device).float()
    mean, std = (
        image.new_tensor(channels)[:, None, None]
        for channels in (preprocessing.mean, preprocessing.std)
    )
    return (image - mean) / std


def padded_shape(shape_hw: Sequence[int], multiple: int) -> tuple[int, int]:
    """Height and width, each rounded up to a multiple."""
    height, width = (-(-side // multiple) * multiple for side in shape_hw[:2])
    return height, width


def as_batch(images: Sequence[Tensor], multiple: int) -> Tensor:
    """(B, 3, H, W): normalised (3, h, w) images padded with zeros at the right and the bottom."""
    height, width = padded_shape(
        (max(image.shape[1] for image in images), max(image.shape[2] for image in images)), multiple
    )
    batch = images[0].new_zeros((len(images), 3, height, width))
    for place, image in zip(batch, images, strict=True):
        place[:, : image.shape[1], : image.shape[2]] = image
    return batch
