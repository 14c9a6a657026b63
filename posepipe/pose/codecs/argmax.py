"""Heatmaps as most networks give them: the highest cell, and how far the keypoint is from it."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from posepipe.networks.devices import constant
from posepipe.pose.codecs.base import Codec, CodecTable, Numbers, Response
from posepipe.pose.codecs.cpn import heatmaps_at_fault
from posepipe.pose.heatmaps import Cells, CropKeypoints, cell_centres, encode, mirror_back
from posepipe.zoo.bounds import Count, Factor

_TINY = 1e-10  # below it, a heatmap's logarithm is useless


class ArgmaxTable(CodecTable, frozen=True):
    """The table ``[decoding]`` of heatmaps with ``codec = "argmax"`` or ``"dark"``.

    Attributes:
        codec: "argmax": the highest cell, then a quarter cell in x and in y towards the higher
            neighbour. "dark" (Zhang et al. 2020): the peak of the parabola that the logarithm of
            the smoothed heatmap has there.
        stride: crop pixels per cell.
        cells: where they lie, see `Cells`; with "points" the mirror image's heatmaps are moved by
            a cell, as in SimpleBaseline and HRNet.
        quarter_offset: of "argmax".
        blur_kernel: cells, odd: width of the Gaussian filter of "dark"; 11 for targets of sigma 2.
        sigma: cells; of the targets.
    """

    codec: Literal["argmax", "dark"] = "argmax"
    stride: Count = 4
    cells: Cells = "squares"
    quarter_offset: bool = True
    blur_kernel: Count = 11
    sigma: Factor = 2.0

    def __post_init__(self) -> None:
        if self.blur_kernel % 2 == 0:
            raise ValueError(f"blur_kernel must be odd, got {self.blur_kernel}")


class ArgmaxCodec(Codec):
    """Heatmaps of peak 1, whose value at the peak is the keypoint's confidence."""

    def __init__(self, table: ArgmaxTable) -> None:
        self.table = table

    def encode(self, points_xy: Tensor, size_wh: tuple[int, int]) -> Response:
        """See `Codec.encode`; one Gaussian for each keypoint, its centre not rounded."""
        width, height = (side // self.table.stride for side in size_wh)
        table = self.table
        maps = encode(
            points_xy,
            (height, width),
            stride=table.stride,
            sigma=table.sigma,
            amplitude=1.0,
            cells=table.cells,
        )
        return (maps,)

    def measure(self, response: Response) -> Tensor:
        """See `Codec.measure`: the peak, its cell in the flat map, and the 3x3 values about it.

        Of a cell at a border, those beyond it are any values of the map.
        """
        maps = response[0].float()
        smooth = _smoothed(maps, self.table.blur_kernel) if self.table.codec == "dark" else maps
        width, flat, about = maps.shape[-1], maps.flatten(2), smooth.flatten(2)
        if maps.is_cpu:  # numpy finds a peak in a tenth of torch's time
            return torch.from_numpy(_at_peaks(flat.numpy(), about.numpy(), width))
        return _at_peaks_on_device(flat, about, width)

    def keypoints(self, numbers: Numbers, size_wh: tuple[int, int]) -> CropKeypoints:
        """See `Codec.keypoints`; of a few numbers numpy makes them at half of torch's cost."""
        width, height = (side // self.table.stride for side in size_wh)
        y, x = np.divmod(numbers[..., 1].astype(np.int64), width)
        cells = np.stack([x, y], axis=-1)
        places = cells.astype(np.float32)
        if self.table.codec == "dark" or self.table.quarter_offset:
            inside = (cells > 0) & (cells < np.array([width - 1, height - 1]))
            offsets = _dark if self.table.codec == "dark" else _quarter
            places += offsets(numbers[..., 2:], inside)
        pitch_xy, first = cell_centres((height, width), self.table.stride, self.table.cells)
        points = places * np.array(pitch_xy, np.float32) + np.float32(first)
        confidences = numbers[..., 0].clip(0, 1)
        return CropKeypoints(torch.from_numpy(points), torch.from_numpy(confidences))

    def flip(self, response: Response, mirrored: tuple[int, ...]) -> Response:
        """See `Codec.flip`."""
        maps = mirror_back(response[0], mirrored)
        if self.table.cells == "points":
            maps = torch.cat([maps[..., :1], maps[..., :-1]], dim=-1)
        return (maps,)

    def check(self, response: Response, keypoints: int, size_wh: tuple[int, int]) -> str:
        """See `Codec.check`."""
        return heatmaps_at_fault(response, keypoints, size_wh, self.table.stride)


def _steps(width: int) -> tuple[int, ...]:
    """From a cell of a map to the 3x3 cells about it, row by row, in the flat map."""
    return tuple(down * width + across for down in (-1, 0, 1) for across in (-1, 0, 1))


def _at_peaks(flat: Numbers, about: Numbers, width: int) -> Numbers:
    """(B, K, 11): what `ArgmaxCodec.measure` gives of flat maps (B, K, P).

    Args:
        flat: where the peaks are.
        about: the same maps or smoothed ones, of which the 3x3 values are.
        width: of the maps.
    """
    cells = flat.argmax(axis=-1)[..., None]
    begins = np.arange(0, flat.size, flat.shape[-1]).reshape(cells.shape)
    places = np.clip(cells + np.array(_steps(width)), 0, flat.shape[-1] - 1)
    peaks = flat.reshape(-1)[begins + cells]
    found = [peaks, cells.astype(np.float32), about.reshape(-1)[begins + places]]
    return np.concatenate(found, axis=-1)


def _at_peaks_on_device(flat: Tensor, about: Tensor, width: int) -> Tensor:
    """`_at_peaks` where the maps are."""
    peaks = flat.max(dim=-1, keepdim=True)
    steps = constant(_steps(width), flat.device, torch.int64)
    places = (peaks.indices + steps).clamp(0, flat.shape[-1] - 1)
    return torch.cat([peaks.values, peaks.indices.float(), about.gather(2, places)], dim=-1)


def _quarter(about: Numbers, inside: npt.NDArray[np.bool_]) -> Numbers:
    """(B, K, 2): a quarter cell towards the higher neighbour in x and in y; none at a border.

    Args:
        about: (B, K, 9) the 3x3 values about the highest cell.
        inside: (B, K, 2), whether it has neighbours on both sides, in x and in y.
    """
    differences = about[..., [5, 7]] - about[..., [3, 1]]
    quarter: Numbers = np.float32(0.25) * np.sign(differences) * inside
    return quarter


def _dark(about: Numbers, inside: npt.NDArray[np.bool_]) -> Numbers:
    """(B, K, 2): from the highest cell to the peak of the parabola there (DARK, section 3.1).

    At most a cell away. None at a border or where it is no peak.

    Args:
        about: (B, K, 9) the smoothed heatmap's values there and in the 3x3 cells about it.
        inside: (B, K, 2), whether it has neighbours on both sides, in x and in y.
    """
    upper_left, upper, upper_right, left, middle, right, lower_left, lower, lower_right = (
        np.moveaxis(np.log(np.maximum(about, np.float32(_TINY))), -1, 0)
    )
    dx, dy = (right - left) / 2, (lower - upper) / 2
    twice = 2 * middle
    dxx, dyy = right - twice + left, lower - twice + upper
    dxy = (lower_right - lower_left - upper_right + upper_left) / 4
    determinant = dxx * dyy - dxy * dxy
    is_peak = (determinant > 0) & (dxx < 0) & inside.all(axis=-1)
    safe = np.where(is_peak, determinant, np.float32(1))
    moved = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], axis=-1) / safe[..., None]
    return np.where(is_peak[..., None], moved, np.float32(0)).clip(-1, 1)


def _smoothed(maps: Tensor, kernel: int) -> Tensor:
    """(B, K, h, w) heatmaps through a Gaussian filter, as far apart as OpenCV's rule says."""
    if kernel == 1:
        return maps
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    offsets = torch.arange(kernel, device=maps.device, dtype=maps.dtype) - kernel // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    flat = maps.flatten(0, 1)[:, None]
    flat = F.conv2d(flat, weights[None, None, :, None], padding=(kernel // 2, 0))
    flat = F.conv2d(flat, weights[None, None, None, :], padding=(0, kernel // 2))
    return flat[:, 0].reshape(maps.shape)
