"""Heatmaps as most networks give them: the highest cell, and how far the keypoint is from it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from posepipe.pose.codecs.base import Codec, CodecTable, Response
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

    def decode(self, response: Response, size_wh: tuple[int, int]) -> CropKeypoints:
        """See `Codec.decode`."""
        maps = response[0].float()
        width = maps.shape[-1]
        peaks = maps.flatten(2).max(dim=-1)
        x, y = peaks.indices % width, peaks.indices // width
        cells = torch.stack([x, y], dim=-1)
        places = cells.to(maps.dtype)
        if self.table.codec == "dark":
            places = places + _dark(maps, cells, self.table.blur_kernel)
        elif self.table.quarter_offset:
            places = places + _quarter(maps, cells)
        shape_hw = maps.shape[-2], maps.shape[-1]
        pitch_xy, first = cell_centres(shape_hw, self.table.stride, self.table.cells)
        points = places * places.new_tensor(pitch_xy) + first
        return CropKeypoints(points, peaks.values.clamp(0, 1))

    def flip(self, response: Response, mirrored: tuple[int, ...]) -> Response:
        """See `Codec.flip`."""
        maps = mirror_back(response[0], mirrored)
        if self.table.cells == "points":
            maps = torch.cat([maps[..., :1], maps[..., :-1]], dim=-1)
        return (maps,)

    def check(self, response: Response, keypoints: int, size_wh: tuple[int, int]) -> str:
        """See `Codec.check`."""
        return heatmaps_at_fault(response, keypoints, size_wh, self.table.stride)


def _neighbours(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, K, 3, 3) values about (B, K, 2) cells; the border's own beyond it."""
    height, width = maps.shape[-2:]
    steps = torch.arange(-1, 2, device=maps.device)
    columns = (cells[..., 0, None] + steps).clamp(0, width - 1)
    rows = (cells[..., 1, None] + steps).clamp(0, height - 1)
    places = rows[..., :, None] * width + columns[..., None, :]
    return maps.flatten(2).gather(2, places.flatten(2)).unflatten(2, (3, 3))  # type: ignore[no-untyped-call,no-any-return]


def _quarter(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, K, 2): a quarter cell towards the higher neighbour in x and in y; none at a border."""
    about = _neighbours(maps, cells)
    right = about[..., 1, 2] - about[..., 1, 0]
    lower = about[..., 2, 1] - about[..., 0, 1]
    return 0.25 * torch.stack([right, lower], dim=-1).sign() * _inside(maps, cells)


def _inside(maps: Tensor, cells: Tensor) -> Tensor:
    """(B, K, 2): whether cells have neighbours on both sides, in x and in y."""
    last = cells.new_tensor([maps.shape[-1] - 1, maps.shape[-2] - 1])
    return (cells > 0) & (cells < last)


def _dark(maps: Tensor, cells: Tensor, kernel: int) -> Tensor:
    """(B, K, 2): from the highest cell to the peak of the parabola there (DARK, section 3.1).

    Of the smoothed heatmap's logarithm; at most a cell away. None at a border or where it is no
    peak.
    """
    if kernel > 1:
        maps = _smoothed(maps, kernel)
    log = _neighbours(maps.clamp(min=_TINY), cells).log()
    dx = (log[..., 1, 2] - log[..., 1, 0]) / 2
    dy = (log[..., 2, 1] - log[..., 0, 1]) / 2
    dxx = log[..., 1, 2] - 2 * log[..., 1, 1] + log[..., 1, 0]
    dyy = log[..., 2, 1] - 2 * log[..., 1, 1] + log[..., 0, 1]
    dxy = (log[..., 2, 2] - log[..., 2, 0] - log[..., 0, 2] + log[..., 0, 0]) / 4
    determinant = dxx * dyy - dxy**2
    is_peak = (determinant > 0) & (dxx < 0)
    safe = torch.where(is_peak, determinant, 1.0)
    moved = torch.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], dim=-1) / safe[..., None]
    counts = is_peak[..., None] & _inside(maps, cells).all(dim=-1, keepdim=True)
    return torch.where(counts, moved, 0.0).clamp(-1, 1)


def _smoothed(maps: Tensor, kernel: int) -> Tensor:
    """(B, K, h, w) heatmaps through a Gaussian filter, as far apart as OpenCV's rule says."""
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    offsets = torch.arange(kernel, device=maps.device, dtype=maps.dtype) - kernel // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    weights = weights / weights.sum()
    flat = maps.flatten(0, 1)[:, None]
    flat = F.conv2d(flat, weights[None, None, :, None], padding=(kernel // 2, 0))
    flat = F.conv2d(flat, weights[None, None, None, :], padding=(0, kernel // 2))
    return flat[:, 0].reshape(maps.shape)
