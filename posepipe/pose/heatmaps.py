"""Heatmaps: keypoints to heatmaps (training's targets) and heatmaps to keypoints (test time).

A heatmap is a tensor (B, K, h, w) float32; its cell (x, y) covers a `stride` x `stride` square of
crop pixels, so its centre is the crop point ``stride * cell + (stride - 1) / 2``, integers being
pixel centres. Encoding and decoding live side by side so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from posepipe.recipe import Table


class DecodingTable(Table, frozen=True):
    """The recipe's table ``[decoding]``: how keypoints are read off heatmaps.

    Attributes:
        stride: crop pixels per heatmap cell.
        amplitude: the peak that training's targets had (the public CPN code bases: 255).
        flip: average with the heatmaps of the mirror image (CPN, section 4.1, "Testing Details").
        blur_kernel: cells, odd; width of the Gaussian filter on the heatmaps; 1 for none. The
            paper gives no number; both public CPN code bases use 21.
        quarter_offset: move a quarter cell from the highest towards the second highest response.
        confidence_offset: added to peak / amplitude; the public CPN code bases add 0.5.
        clamp_confidence: keep confidences in [0, 1]; the public CPN code bases do not.
    """

    stride: int = 4
    amplitude: float = 1.0
    flip: bool = True
    blur_kernel: int = 21
    quarter_offset: bool = True
    confidence_offset: float = 0.0
    clamp_confidence: bool = True

    def __post_init__(self) -> None:
        if self.blur_kernel < 1 or self.blur_kernel % 2 == 0:
            raise ValueError(f"blur_kernel must be odd and positive, got {self.blur_kernel}")


@dataclass(frozen=True, eq=False)
class CropKeypoints:
    """Keypoints of B crops, read off heatmaps.

    Attributes:
        points_xy: (B, K, 2) float32 crop pixels.
        confidences: (B, K) float32; in [0, 1] unless the recipe says otherwise.
    """

    points_xy: Tensor
    confidences: Tensor


def encode(
    points_xy: Tensor, shape_hw: tuple[int, int], *, stride: int, sigma: float, amplitude: float
) -> Tensor:
    """Heatmaps with one Gaussian per keypoint, the target of CPN's L2 losses.

    The centre is not rounded to a cell (the public CPN code bases light one cell and blur it).

    Args:
        points_xy: (B, K, 2) crop pixels; a point outside gives the part of its Gaussian that
            reaches into the map.
        shape_hw: height and width of the heatmaps in cells.
        stride: crop pixels per cell.
        sigma: standard deviation in cells.
        amplitude: the value at the keypoint.

    Returns:
        (B, K, h, w) in the dtype and on the device of `points_xy`.
    """
    cells = (points_xy - (stride - 1) / 2) / stride  # (B, K, 2)
    rows = torch.arange(shape_hw[0], device=cells.device, dtype=cells.dtype)
    columns = torch.arange(shape_hw[1], device=cells.device, dtype=cells.dtype)
    down = torch.exp(-((rows - cells[..., 1:]) ** 2) / (2 * sigma**2))  # (B, K, h)
    across = torch.exp(-((columns - cells[..., :1]) ** 2) / (2 * sigma**2))  # (B, K, w)
    return amplitude * down[..., :, None] * across[..., None, :]


def decode(heatmaps: Tensor, table: DecodingTable) -> CropKeypoints:
    """Where the keypoints of B crops are (CPN, section 4.1, "Testing Details").

    Gaussian filter, highest response, a quarter cell towards the second highest; the confidence is
    the unfiltered heatmap's value at that cell. Corners are those of the public CPN code bases:
    each map is divided by its maximum first, which turns a map without any positive value upside
    down, and a peak may lie in the filter's skirt outside the map and is then clipped to it. A map
    of zeros gives cell (0, 0) and no confidence beyond the offset.

    Args:
        heatmaps: (B, K, h, w), mirrored ones averaged already; B = 0 is legal.
        table: the settings.
    """
    count, keypoints, height, width = heatmaps.shape
    maps = heatmaps.float().reshape(count * keypoints, height, width)
    if count == 0:
        empty = maps.new_zeros((0, keypoints))
        return CropKeypoints(empty[..., None].expand(-1, -1, 2), empty)
    peaks = maps.amax(dim=(-2, -1), keepdim=True)
    radius = table.blur_kernel // 2
    filtered = _gaussian_filter(maps / torch.where(peaks == 0, 1.0, peaks), table.blur_kernel)
    first, second = _two_highest(filtered)  # (B*K, 2) each, x y
    cell = (first - radius).to(maps.dtype)
    if table.quarter_offset:
        towards = (second - first).to(maps.dtype)
        distance = towards.norm(dim=-1, keepdim=True)
        cell = cell + 0.25 * towards / distance.clamp(min=1.0)
    limits = cell.new_tensor([width - 1, height - 1])
    cell = torch.minimum(cell.clamp(min=0), limits)
    nearest = cell.round().long()
    at_peak = (nearest[:, 1] * width + nearest[:, 0])[:, None]
    values = maps.reshape(len(maps), -1).gather(1, at_peak)[:, 0]
    confidences = values / table.amplitude + table.confidence_offset
    if table.clamp_confidence:
        confidences = confidences.clamp(0, 1)
    points = table.stride * cell + (table.stride - 1) / 2
    return CropKeypoints(points.reshape(count, keypoints, 2), confidences.reshape(count, keypoints))


def mirror_back(heatmaps: Tensor, mirrored: tuple[int, ...]) -> Tensor:
    """(B, K, h, w) heatmaps of mirror images as heatmaps of the images themselves.

    Args:
        heatmaps: what the network said about the mirrored crops.
        mirrored: `Skeleton.mirrored`: the channel that takes each keypoint's place.
    """
    return heatmaps.flip(-1)[:, list(mirrored)]


def _gaussian_filter(maps: Tensor, kernel: int) -> Tensor:
    """(N, h, w) maps in a skirt of kernel // 2 zeros, blurred, the skirt kept."""
    if kernel == 1:
        return maps
    down = _blur_matrix(maps.shape[-2], kernel, maps)  # (h + skirt, h)
    across = _blur_matrix(maps.shape[-1], kernel, maps)  # (w + skirt, w)
    return down @ maps @ across.T


def _blur_matrix(length: int, kernel: int, like: Tensor) -> Tensor:
    """The matrix that pads a line of cells with zeros and blurs it, mirrored at the outer ends.

    As a product of matrices the filter is several times as fast as a convolution of one channel.
    """
    radius = kernel // 2
    # OpenCV's rule for the standard deviation that belongs to a kernel size.
    sigma = 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8
    offsets = torch.arange(-radius, radius + 1, device=like.device, dtype=like.dtype)
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    lines = torch.eye(length, device=like.device, dtype=like.dtype)[:, None]  # (length, 1, length)
    padded = F.pad(F.pad(lines, (radius, radius)), (radius, radius), mode="reflect")
    return F.conv1d(padded, (weights / weights.sum())[None, None])[:, 0].T


def _two_highest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The cells (N, 2), x y, of the highest and the second highest value of (N, h, w) maps.

    As the public CPN code bases search: the first cell is set to zero, then they look again; where
    all others are negative they find the same cell twice.
    """
    width = maps.shape[-1]
    flat = maps.flatten(1).clone()
    first = flat.argmax(dim=1, keepdim=True)
    flat.scatter_(1, first, 0.0)
    second = flat.argmax(dim=1, keepdim=True)
    as_xy = [torch.cat([index % width, index // width], dim=1) for index in (first, second)]
    return as_xy[0], as_xy[1]
