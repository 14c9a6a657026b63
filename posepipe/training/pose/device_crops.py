"""Crops made on the device: images stay there as uint8, one batched warp cuts the people out.

The same steps as `posepipe.training.pose.augment.crop_pixels` (cut a window, average it down,
bilinear samples, colours, cut-outs), and the same result within the interpolation's error: OpenCV
rounds places to 1/32 of a pixel, the device does not.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from posepipe.core.affine import WarpPlan
from posepipe.io.images import ImageFile
from posepipe.training.pictures import free_memory
from posepipe.training.pose.augment import Augmentation, crop_pixels
from posepipe.training.samples import PoseSample

logger = logging.getLogger(__name__)


class DeviceCrops:
    """Makes batches of crops on a device, which keeps the images up to a limit.

    The crops of images for which there is no room are made by the CPU, and copied.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        size_wh: tuple[int, int],
        fill: tuple[int, int, int],
        limit_bytes: int | None = None,
    ) -> None:
        """Keep nothing yet.

        Args:
            device: where images are kept and crops are wanted.
            size_wh: the crops' size in pixels.
            fill: RGB outside images and of what is covered.
            limit_bytes: most bytes of pixels to keep; None: half of what is free now.
        """
        self._device, self._size_wh, self._fill = device, size_wh, fill
        self.limit_bytes = _free_memory(device) // 2 if limit_bytes is None else limit_bytes
        self.used_bytes = 0
        self._kept: dict[ImageFile, Tensor] = {}
        self._lock = threading.Lock()
        self._full = False

    @torch.no_grad()
    def __call__(
        self, samples: Sequence[PoseSample], augmentations: Sequence[Augmentation]
    ) -> Tensor:
        """(B, h, w, 3) uint8 RGB crops on the device, from any thread.

        Args:
            samples: B people.
            augmentations: what is done to each.

        Raises:
            ImageError: an image is missing or cannot be read.
        """
        width, height = self._size_wh
        crops = self._colour(torch.uint8).expand(len(samples), height, width, 3).clone()
        windows: list[Tensor] = []
        plans: list[WarpPlan] = []
        places = []
        for place, (sample, augmentation) in enumerate(zip(samples, augmentations, strict=True)):
            picture = self._picture(sample)
            if picture is None:
                crop = crop_pixels(
                    sample.read(), augmentation, size_wh=self._size_wh, fill=self._fill
                )
                crops[place] = torch.from_numpy(crop).to(self._device)
                continue
            source_wh = (picture.shape[1], picture.shape[0])
            plan = augmentation.to_crop.plan(source_wh, self._size_wh, antialias=True)
            # A crop wholly outside its image: any pixel will do as a window; none of it is seen.
            plans.append(plan or WarpPlan((0, 0, 1, 1), (1, 1), augmentation.to_crop))
            windows.append(_reduced(picture, plans[-1]))
            places.append(place)
        if places:
            warped = self._warped(windows, plans)
            crops[places] = self._finished(warped, [augmentations[place] for place in places])
        return crops

    def _warped(self, windows: Sequence[Tensor], plans: Sequence[WarpPlan]) -> Tensor:
        """(N, h, w, 3) uint8 bilinear samples of all windows at once."""
        width, height = self._size_wh
        rows = max(2, *(window.shape[0] for window in windows))
        columns = max(2, *(window.shape[1] for window in windows))
        # Zero is the fill colour, in the padding between windows as in grid_sample's outside.
        fill = self._colour(torch.float32)
        padded = torch.zeros((len(windows), rows, columns, 3), device=self._device)
        for place, window in enumerate(windows):
            padded[place, : window.shape[0], : window.shape[1]] = window - fill
        to_source = np.stack([plan.to_target.inverse.matrix for plan in plans])
        maps = torch.from_numpy(to_source).to(self._device, torch.float32)[:, :, :, None, None]
        x = torch.arange(width, device=self._device, dtype=torch.float32)
        y = torch.arange(height, device=self._device, dtype=torch.float32)[:, None]
        # No matrix product: a GPU may compute those with 10 bits.
        source = maps[:, :, 0] * x + maps[:, :, 1] * y + maps[:, :, 2]  # (N, 2, h, w)
        grid = torch.stack(
            [source[:, 0] * (2 / (columns - 1)) - 1, source[:, 1] * (2 / (rows - 1)) - 1], dim=-1
        )
        sampled = F.grid_sample(padded.permute(0, 3, 1, 2), grid, align_corners=True)
        return _as_bytes(sampled.permute(0, 2, 3, 1) + fill)

    def _finished(self, crops: Tensor, augmentations: Sequence[Augmentation]) -> Tensor:
        """(N, h, w, 3) uint8 crops coloured, and covered in part."""
        colours = torch.from_numpy(np.stack([a.colours for a in augmentations])).to(self._device)
        flat = crops.reshape(len(crops), -1, 3)
        crops = colours.gather(1, flat.long()).reshape(crops.shape)
        most = max(len(augmentation.cutouts_xyxy) for augmentation in augmentations)
        if not most:
            return crops
        rectangles = np.zeros((len(augmentations), most, 4), np.int64)
        for place, augmentation in enumerate(augmentations):
            rectangles[place, : len(augmentation.cutouts_xyxy)] = augmentation.cutouts_xyxy
        edges = torch.from_numpy(rectangles).to(self._device)
        left, top, right, bottom = edges[..., None, None].unbind(2)  # (N, R, 1, 1) each
        width, height = self._size_wh
        x = torch.arange(width, device=self._device)
        y = torch.arange(height, device=self._device)[:, None]
        covered = ((x >= left) & (x < right) & (y >= top) & (y < bottom)).any(dim=1)
        return torch.where(covered[..., None], self._colour(torch.uint8), crops)

    def _picture(self, sample: PoseSample) -> Tensor | None:
        """The whole image on the device, (H, W, 3) uint8; None if there is no room for it."""
        file = sample.picture.file
        kept = self._kept.get(file)
        if kept is not None or self._full:
            return kept
        pixels = file.read()
        with self._lock:
            if file not in self._kept:
                if self.used_bytes + pixels.nbytes > self.limit_bytes:
                    self._full = True
                    logger.info(
                        "%d images fill the %.1f GiB of %s meant for them; the crops of the "
                        "others are made by the CPU",
                        len(self._kept),
                        self.limit_bytes / 2**30,
                        self._device,
                    )
                    return None
                self._kept[file] = torch.tensor(pixels, device=self._device)
                self.used_bytes += pixels.nbytes
            return self._kept[file]

    def _colour(self, dtype: torch.dtype) -> Tensor:
        return torch.tensor(self._fill, dtype=dtype, device=self._device)


def _reduced(picture: Tensor, plan: WarpPlan) -> Tensor:
    """A plan's window of an image, averaged down: (h, w, 3) float32, whole numbers."""
    left, top, right, bottom = plan.window
    window = picture[top:bottom, left:right].float()
    width, height = plan.reduced_wh
    if (width, height) == (right - left, bottom - top):
        return window
    rows = _shares(height, bottom - top, picture.device)
    columns = _shares(width, right - left, picture.device)
    return torch.einsum("yi,ijc,xj->yxc", rows, window, columns).round()


def _shares(parts: int, length: int, device: torch.device) -> Tensor:
    """(parts, length): how much of each of `length` pixels lies in each part, as means."""
    size = length / parts
    begins = torch.arange(parts, device=device, dtype=torch.float32)[:, None] * size
    pixels = torch.arange(length, device=device, dtype=torch.float32)
    overlap = torch.minimum(begins + size, pixels + 1) - torch.maximum(begins, pixels)
    return overlap.clamp(min=0) / size


def _as_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()
