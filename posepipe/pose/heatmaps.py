"""Heatmaps: keypoints to heatmaps (training's targets) and heatmaps to keypoints (test time).

A heatmap is a tensor (B, K, h, w) float32; its cell (x, y) covers a `stride` x `stride` square of
crop pixels, so its centre is the crop point ``stride * cell + (stride - 1) / 2``, integers being
pixel centres. Other programs' cells lie elsewhere, see `Cells`. Encoding and decoding live side by
side so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from posepipe.networks.devices import constant
from posepipe.zoo.bounds import Count, Factor, Number, Whole
from posepipe.zoo.recipe import Table

Cells = Literal["squares", "points", "corners"]
"""Where cells lie. "squares": cell c covers a square of pixels, as in CPN. "points": its centre is
crop pixel stride * c (SimpleBaseline, HRNet and kin). "corners": the first and the last cell are
the first and the last pixel (UDP: Huang et al., "The Devil is in the Details", CVPR 2020)."""


class DecodingTable(Table, frozen=True):
    """The recipe's table ``[decoding]``: how keypoints are read off heatmaps.

    This is CPN's; those of other networks are in `posepipe.pose.codecs`.

    Attributes:
        codec: whose convention it is.
        stride: crop pixels per heatmap cell.
        amplitude: the peak that training's targets had (the public CPN code bases: 255).
        flip: average with the heatmaps of the mirror image (CPN, section 4.1, "Testing Details").
        blur_kernel: cells, odd; width of the Gaussian filter on the heatmaps; 1 for none. The
            paper gives no number; both public CPN code bases use 21.
        quarter_offset: move a quarter cell from the highest towards the second highest response.
        confidence_offset: added to peak / amplitude; the public CPN code bases add 0.5.
        clamp_confidence: keep confidences in [0, 1]; the public CPN code bases do not.
    """

    codec: Literal["cpn"] = "cpn"
    stride: Count = 4
    amplitude: Factor = 1.0
    flip: bool = True
    blur_kernel: Whole = 21
    quarter_offset: bool = True
    confidence_offset: Number = 0.0
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


def cell_centres(
    shape_hw: tuple[int, int], stride: int, cells: Cells
) -> tuple[tuple[float, float], float]:
    """How many crop pixels lie between neighbouring cells, (x, y), and where the first one is.

    Args:
        shape_hw: height and width of the heatmaps in cells.
        stride: crop pixels per cell.
        cells: see `Cells`.

    >>> cell_centres((64, 48), 4, "squares")
    ((4.0, 4.0), 1.5)
    >>> cell_centres((3, 2), 4, "corners")
    ((7.0, 5.5), 0.0)
    """
    if cells == "corners":
        height, width = (max(side, 2) for side in shape_hw)
        return ((stride * width - 1) / (width - 1), (stride * height - 1) / (height - 1)), 0.0
    return (float(stride), float(stride)), (stride - 1) / 2 if cells == "squares" else 0.0


def encode(
    points_xy: Tensor,
    shape_hw: tuple[int, int],
    *,
    stride: int,
    sigma: float,
    amplitude: float,
    cells: Cells = "squares",
) -> Tensor:
    """Heatmaps with one Gaussian per keypoint, the target of CPN's L2 losses.

    The centre is not rounded to a cell; for what the public CPN code bases do, see
    `encode_blurred_cell`.

    Args:
        points_xy: (B, K, 2) crop pixels; a point outside gives the part of its Gaussian that
            reaches into the map.
        shape_hw: height and width of the heatmaps in cells.
        stride: crop pixels per cell.
        sigma: standard deviation in cells.
        amplitude: the value at the keypoint.
        cells: where they lie, see `Cells`.

    Returns:
        (B, K, h, w) in the dtype and on the device of `points_xy`.
    """
    pitch_xy, first = cell_centres(shape_hw, stride, cells)
    places = (points_xy - first) / points_xy.new_tensor(pitch_xy)  # (B, K, 2)
    rows = torch.arange(shape_hw[0], device=places.device, dtype=places.dtype)
    columns = torch.arange(shape_hw[1], device=places.device, dtype=places.dtype)
    down = torch.exp(-((rows - places[..., 1:]) ** 2) / (2 * sigma**2))  # (B, K, h)
    across = torch.exp(-((columns - places[..., :1]) ** 2) / (2 * sigma**2))  # (B, K, w)
    return amplitude * down[..., :, None] * across[..., None, :]


def encode_blurred_cell(
    points_xy: Tensor,
    shape_hw: tuple[int, int],
    *,
    stride: int,
    kernel: int,
    amplitude: float,
    sigma: float | None = None,
) -> Tensor:
    """Heatmaps as the public CPN code bases make their targets: one lit cell per keypoint, blurred.

    The lit cell is the one in which the keypoint lies, so the target moves in steps of a cell and
    is up to half a cell off. The blur is OpenCV's; near a border, where it mirrors, the brightest
    cell may be the border's own. It is the brightest cell that has the amplitude.

    Args:
        points_xy: (B, K, 2) crop pixels, integers being pixel centres; the code bases' own numbers
            are larger by a half, so their ``floor(x / stride)`` is ``floor((x + 0.5) / stride)``
            here. A point outside the map leaves it dark.
        shape_hw: height and width of the heatmaps in cells.
        stride: crop pixels per cell.
        kernel: width in cells of the Gaussian filter, odd. The code bases: 15, 11, 9, 7 for their
            levels at 256x192 and 23, 17, 13, 9 at 384x288; RefineNet's is the last.
        amplitude: the largest value of a heatmap (the code bases: 255).
        sigma: of the filter, in cells. None: OpenCV's choice, a table up to kernel 9, a rule from
            11 on. OpenCV of 2018, with which the code bases trained, had tables up to 7 only:
            sigma 1.7 gives its kernel 9.

    Returns:
        (B, K, h, w) in the dtype and on the device of `points_xy`.

    Raises:
        ValueError: the kernel is even or not positive.
    """
    if kernel < 1 or kernel % 2 == 0:
        raise ValueError(f"kernel must be odd and positive, got {kernel}")
    height, width = shape_hw
    cells = torch.floor((points_xy + 0.5) / stride)  # (B, K, 2)
    inside = ((cells >= 0) & (cells < cells.new_tensor([width, height]))).all(dim=-1)
    column, row = torch.where(inside[..., None], cells, 0).long().unbind(dim=-1)
    weights = _opencv_kernel(kernel, sigma).to(points_xy)
    down = _blurred_cells(height, weights)[row]  # (B, K, h)
    across = _blurred_cells(width, weights)[column]  # (B, K, w)
    down = down / down.amax(dim=-1, keepdim=True)
    across = across / across.amax(dim=-1, keepdim=True)
    maps = amplitude * down[..., :, None] * across[..., None, :]
    return torch.where(inside[..., None, None], maps, 0)


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
    limits = constant((width - 1, height - 1), maps.device, torch.int64)
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
        heatmaps: the network's response to the mirrored crops.
        mirrored: `Skeleton.mirrored`: the channel that takes each keypoint's place.
    """
    return heatmaps.flip(-1).index_select(1, constant(mirrored, heatmaps.device, torch.int64))


def _gaussian_filter(maps: Tensor, kernel: int) -> Tensor:
    """(N, h, w) maps in a skirt of kernel // 2 zeros, blurred, the skirt kept."""
    if kernel == 1:
        return maps
    down = _blur_matrix(maps.shape[-2], kernel, maps.device)  # (h + skirt, h)
    across = _blur_matrix(maps.shape[-1], kernel, maps.device)  # (w + skirt, w)
    return down @ maps @ across.T


@cache  # for good: a recorded graph reads them where they are
def _blur_matrix(length: int, kernel: int, device: torch.device) -> Tensor:
    """The matrix that pads a line of cells with zeros and blurs it, mirrored at the outer ends.

    As a product of matrices the filter is several times as fast as a convolution of one channel.
    """
    radius = kernel // 2
    weights = _gaussian(kernel, _opencv_sigma(kernel)).float()
    lines = torch.eye(length)[:, None]  # (length, 1, length)
    padded = F.pad(F.pad(lines, (radius, radius)), (radius, radius), mode="reflect")
    return F.conv1d(padded, weights[None, None])[:, 0].T.to(device)


# What OpenCV's GaussianBlur takes for small kernels without a sigma: sums of these are 1.
_OPENCV_TABLES = {
    1: (1.0,),
    3: (0.25, 0.5, 0.25),
    5: (0.0625, 0.25, 0.375, 0.25, 0.0625),
    7: tuple(n / 256 for n in (8, 28, 56, 72, 56, 28, 8)),
    9: tuple(n / 256 for n in (4, 13, 30, 51, 60, 51, 30, 13, 4)),
}


def _opencv_sigma(kernel: int) -> float:
    """OpenCV's rule for the standard deviation that belongs to a kernel size."""
    return 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8


def _opencv_kernel(kernel: int, sigma: float | None) -> Tensor:
    """(kernel,) float64 weights of OpenCV's Gaussian filter."""
    if sigma is None and kernel in _OPENCV_TABLES:
        return torch.tensor(_OPENCV_TABLES[kernel], dtype=torch.float64)
    return _gaussian(kernel, _opencv_sigma(kernel) if sigma is None else sigma)


def _gaussian(kernel: int, sigma: float) -> Tensor:
    """(kernel,) float64 weights of a Gaussian that sum to 1."""
    offsets = torch.arange(kernel, dtype=torch.float64) - kernel // 2
    weights = torch.exp(-(offsets**2) / (2 * sigma**2))
    return weights / weights.sum()


def _blurred_cells(length: int, weights: Tensor) -> Tensor:
    """(length, length): row i is a line whose cell i alone was lit, blurred.

    The line goes on beyond its ends as its mirror image about the last cell's centre.
    """
    radius = len(weights) // 2
    offsets = torch.arange(-radius, radius + 1, device=weights.device)
    cells = torch.arange(length, device=weights.device)
    period = max(2 * (length - 1), 1)
    seen = (cells[:, None] + offsets) % period  # (length, kernel): which cells each one averages
    seen = torch.minimum(seen, period - seen).clamp(max=length - 1)
    blurred = weights.new_zeros(length, length)
    return blurred.scatter_add_(1, seen, weights.expand(length, -1)).T


def _two_highest(maps: Tensor) -> tuple[Tensor, Tensor]:
    """The cells (N, 2), x y, of the highest and the second highest value of (N, h, w) maps.

    As the public CPN code bases search: the first cell is set to zero, in the maps themselves, then
    they look again; where all others are negative they find the same cell twice.
    """
    width, flat = maps.shape[-1], maps.flatten(1)
    first = flat.argmax(dim=1, keepdim=True)
    flat.scatter_(1, first, 0.0)
    both = torch.cat([first, flat.argmax(dim=1, keepdim=True)], dim=1)
    in_order_xy = torch.stack([both % width, both // width], dim=-1)
    return in_order_xy[:, 0], in_order_xy[:, 1]
