"""Crops made on a device: parts of images go there as bytes, and a few kernels cut out everybody.

The steps are those of `posepipe.core.affine.WarpPlan`, as in `Affine.warp`: a window, averaged
down, bilinear samples of it. So are the numbers, within the interpolation's error: OpenCV rounds
places to 1/32 of a pixel, the device does not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from posepipe.core.boxes import Detections
from posepipe.core.warp_plans import WarpPlans
from posepipe.networks.devices import constant, copied_into, moved
from posepipe.pose.crops import PreprocessingTable, crop_windows, crops_to_image

_MOST_AVERAGED = 2**25  # pixels of windows that are averaged together; 400 MB as float32
_LARGE = 4_000_000  # pixels: of larger images, what shows nobody stays on the host


@dataclass(frozen=True, eq=False)
class Sources:
    """Where N warps find their windows in a list of pixels.

    Attributes:
        starts: (N,) int64: the place of each window's first pixel.
        pitches: (N,) int64: how many places its rows are apart.
        plans: all that is outside their windows has the fill colour.
    """

    starts: npt.NDArray[np.int64]
    pitches: npt.NDArray[np.int64]
    plans: WarpPlans

    @classmethod
    def packed(cls, plans: WarpPlans) -> Sources:
        """Windows one after the other, row by row."""
        areas = plans.sizes_wh.prod(axis=1)
        return cls(np.cumsum(areas) - areas, plans.sizes_wh[:, 0], plans)

    def part(self, start: int, end: int) -> Sources:
        """Some of the warps, of the same pixels."""
        return Sources(self.starts[start:end], self.pitches[start:end], self.plans.part(start, end))


@dataclass(frozen=True, eq=False)
class Windows:
    """One image's people, not yet cut out.

    Attributes:
        pixels: (P, 3) uint8 RGB on the host: the image, or its windows one after the other.
        boxes_xyxy: (N, 4) of the people.
        image_wh: width and height of the image.
        are_packed: whether `pixels` are the windows alone.
    """

    pixels: Tensor
    boxes_xyxy: npt.NDArray[np.float32]
    image_wh: tuple[int, int]
    are_packed: bool


def cut_windows(
    image: npt.NDArray[np.uint8],
    detections: Detections,
    table: PreprocessingTable,
    *,
    pinned: bool = False,
) -> Windows:
    """What a device needs to make the crops of `posepipe.pose.crops.cut_crops`.

    numpy copies the pixels: it lets other threads run meanwhile, and torch would have threads of
    its own for each of them. All else is done for many images together, see `joined`.

    Args:
        image: (H, W, 3) uint8 RGB.
        detections: boxes in the image's pixels; they may reach outside, and there may be none.
        table: size, margins, colour outside; its windows are "exact" ones.
        pinned: put the pixels where a CUDA GPU fetches them by itself.
    """
    image_wh, boxes = (image.shape[1], image.shape[0]), detections.boxes_xyxy
    parts, are_packed = [image] if len(boxes) else [], False
    if parts and image_wh[0] * image_wh[1] > _LARGE:
        shown, sources_wh = _crop_boxes([boxes], table), np.array([image_wh] * len(boxes))
        plans = WarpPlans.upright(shown, sources_wh, table.input_size_wh, antialias=table.antialias)
        are_packed = plans.sizes_wh.prod(axis=1).sum() < image_wh[0] * image_wh[1]
        if are_packed:
            parts = [image[y1:y2, x1:x2] for x1, y1, x2, y2 in plans.windows.tolist()]
    area = sum(part.size for part in parts) // 3
    pixels = torch.empty((area, 3), dtype=torch.uint8, pin_memory=pinned)
    begin, there = 0, pixels.numpy()
    for part in parts:
        end = begin + part.shape[0] * part.shape[1]
        np.copyto(there[begin:end].reshape(part.shape), part)
        begin = end
    return Windows(pixels, boxes, image_wh, bool(are_packed))


@dataclass(frozen=True, eq=False)
class Joined:
    """The people of several images, ready to be cut out on a device.

    Attributes:
        pixels: (P, 3) uint8 RGB on the device: all that the crops show.
        sources: where in it each person's window is.
        to_image: (N, 2, 3) float64, see `posepipe.pose.crops.Crops`.
        table: of the crops.
    """

    pixels: Tensor
    sources: Sources
    to_image: npt.NDArray[np.float64]
    table: PreprocessingTable

    def cut(self, start: int, end: int) -> Tensor:
        """(end - start, h, w, 3) uint8 crops of some of the people, on the device."""
        size_wh, fill = self.table.input_size_wh, self.table.fill
        return warped(self.pixels, self.sources.part(start, end), size_wh, fill)


def joined(parts: Sequence[Windows], table: PreprocessingTable, device: torch.device) -> Joined:
    """The people of at least one image together on a device.

    Args:
        parts: made with the same table.
        table: see `cut_windows`.
        device: where they are to be cut out.
    """
    lengths = [len(part.pixels) for part in parts]
    pixels = torch.empty((sum(lengths), 3), dtype=torch.uint8, device=device)
    copied_into(torch.split(pixels, lengths), [part.pixels for part in parts])
    counts = [len(part.boxes_xyxy) for part in parts]
    begins = np.cumsum(lengths) - lengths

    def of_people(values: npt.ArrayLike) -> npt.NDArray[Any]:
        return np.repeat(np.asarray(values), counts, axis=0)

    image_wh = of_people([part.image_wh for part in parts])
    boxes = _crop_boxes([part.boxes_xyxy for part in parts], table)
    plans = WarpPlans.upright(boxes, image_wh, table.input_size_wh, antialias=table.antialias)
    in_image = of_people(begins) + plans.windows[:, 1] * image_wh[:, 0] + plans.windows[:, 0]
    packed, firsts = Sources.packed(plans), of_people(np.cumsum(counts) - counts)
    in_windows = of_people(begins) + packed.starts - packed.starts[firsts]
    are_packed = of_people([part.are_packed for part in parts])
    sources = Sources(
        np.where(are_packed, in_windows, in_image),
        np.where(are_packed, packed.pitches, image_wh[:, 0]),
        plans,
    )
    return Joined(pixels, sources, crops_to_image(boxes, table), table)


def _crop_boxes(
    boxes_xyxy: Sequence[npt.NDArray[np.float32]], table: PreprocessingTable
) -> npt.NDArray[np.float64]:
    """(N, 4): what the crops of all images' people show."""
    width, height = table.input_size_wh
    return crop_windows(np.concatenate(boxes_xyxy), table.margins_xy, width / height)


@torch.no_grad()
def warped(
    pixels: Tensor, sources: Sources, size_wh: tuple[int, int], fill: tuple[int, int, int]
) -> Tensor:
    """(N, h, w, 3) uint8 crops, on the device of `pixels`.

    Args:
        pixels: (P, 3) uint8.
        sources: N warps; N = 0 is legal.
        size_wh: the crops' size in pixels.
        fill: the colour outside windows.
    """
    (width, height), device = size_wh, pixels.device
    plans = sources.plans
    if not len(plans):
        return torch.zeros((0, height, width, 3), dtype=torch.uint8, device=device)
    sizes, reduced = plans.sizes_wh, plans.reduced_wh
    starts, pitches = sources.starts.copy(), sources.pitches.copy()
    colour = constant(fill, device, torch.uint8)
    parts, length = [colour[None], pixels], 1 + len(pixels)  # place 0 is all that is outside
    starts += 1
    for group in _groups(np.flatnonzero((reduced != sizes).any(axis=1)), sizes):
        wide, high = reduced[group].max(axis=0)
        places = (sources.starts[group], sources.pitches[group], sizes[group], reduced[group])
        parts.append(_averaged(pixels, *places).reshape(-1, 3))
        starts[group] = length + wide * high * np.arange(len(group))
        pitches[group] = wide
        length += len(parts[-1])
    everything = torch.cat(parts)
    whole = np.column_stack([starts, pitches, reduced])
    start, pitch, columns, rows = moved(whole, device)[..., None, None].unbind(1)
    at_x, at_y = _places(plans.to_source.astype(np.float32), size_wh, device)
    x_shares, y_shares = (_bilinear(at, most) for at, most in ((at_x, columns), (at_y, rows)))
    total = torch.zeros((len(plans), height, width, 3), device=device)
    for row, inside_rows, down in y_shares:
        begin = start + row * pitch
        for column, inside_columns, across in x_shares:
            place = torch.where(inside_columns & inside_rows, begin + column, 0)
            total += everything[place] * (across * down)[..., None]
    return _as_bytes(total)


def _places(
    to_source: npt.NDArray[np.float32], size_wh: tuple[int, int], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Where the pixels of N crops lie in their windows, x and y, (N, h, w) each.

    Of upright crops all rows have the same x, (N, 1, w), and all columns the same y, (N, h, 1).

    Args:
        to_source: (N, 2, 3): from the pixels of each crop to those of its window.
        size_wh: of the crops.
        device: of the results.
    """
    maps = moved(to_source[..., None, None], device)
    x = torch.arange(size_wh[0], device=device, dtype=torch.float32)
    y = torch.arange(size_wh[1], device=device, dtype=torch.float32)[:, None]
    # No matrix product: a GPU may compute those with 10 bits.
    if not to_source[:, [0, 1], [1, 0]].any():
        return maps[:, 0, 0] * x + maps[:, 0, 2], maps[:, 1, 1] * y + maps[:, 1, 2]
    at_x, at_y = (maps[:, axis, 0] * x + maps[:, axis, 1] * y + maps[:, axis, 2] for axis in (0, 1))
    return at_x, at_y


def _bilinear(at: Tensor, most: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    """The two neighbours of places on a line: which, whether they are on it, and their shares."""
    low = at.floor()
    share, first = at - low, low.long()
    return [
        (one, (one >= 0) & (one < most), of_one)
        for one, of_one in ((first, 1 - share), (first + 1, share))
    ]


def _averaged(
    pixels: Tensor,
    starts: npt.NDArray[np.int64],
    pitches: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    reduced: npt.NDArray[np.int64],
) -> Tensor:
    """(N, h, w, 3) uint8: N windows averaged down, in the upper left of the largest one's size.

    Args:
        pixels: (P, 3) uint8.
        starts: (N,) see `Sources`.
        pitches: (N,).
        sizes: (N, 2) width and height of each window.
        reduced: (N, 2) what they are averaged down to.
    """
    device = pixels.device
    width, height = (int(side) for side in sizes.max(axis=0))
    whole = moved(np.column_stack([starts, pitches, sizes, reduced]), device)
    start, pitch, columns, rows = whole[:, :4, None, None].unbind(1)
    x, y = torch.arange(width, device=device), torch.arange(height, device=device)[:, None]
    place = torch.where((x < columns) & (y < rows), start + y * pitch + x, 0)
    windows = pixels[place].float()  # what is beside a window counts for nothing
    across, down = (
        _shares(whole[:, 2 + axis], whole[:, 4 + axis], longest, most)
        for axis, longest, most in (
            (0, width, reduced[:, 0].max()),
            (1, height, reduced[:, 1].max()),
        )
    )
    lower = torch.einsum("nyi,nijc->nyjc", down, windows)
    return _as_bytes(torch.einsum("nxj,nyjc->nyxc", across, lower))


def _shares(lengths: Tensor, parts: Tensor, longest: int, most: int) -> Tensor:
    """(N, most, longest): how much of each pixel of a line lies in each of its parts, as means.

    Args:
        lengths: (N,) pixels of each line.
        parts: (N,) of equal length that each line is divided into.
        longest: of all lines.
        most: of all parts.
    """
    size = (lengths / parts)[:, None, None]
    begins = torch.arange(int(most), device=lengths.device)[:, None] * size
    pixels = torch.arange(longest, device=lengths.device)
    overlap = torch.minimum(begins + size, pixels + 1) - torch.maximum(begins, pixels)
    return overlap.clamp(min=0) / size


def _groups(
    chosen: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.int64]]:
    """Windows of similar size, so many at a time as memory has room for."""
    by_size = chosen[np.argsort(-sizes[chosen].prod(axis=1), kind="stable")]
    begin = 0
    while begin < len(by_size):
        sides, end = sizes[by_size[begin]], begin + 1
        while end < len(by_size):
            sides = np.maximum(sides, sizes[by_size[end]])
            if sides.prod() * (end + 1 - begin) > _MOST_AVERAGED:
                break
            end += 1
        yield by_size[begin:end]
        begin = end


def _as_bytes(values: Tensor) -> Tensor:
    return values.round_().to(torch.uint8)  # of means: none is below 0 or above 255
