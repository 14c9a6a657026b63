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
from torch import Tensor

from posepipe.core.affine import WarpPlan
from posepipe.core.warp_plans import WarpPlans
from posepipe.io.images import ImageFile
from posepipe.networks.resources import free_memory
from posepipe.pose.warping import Sources, warped
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
        crops = self._colour().expand(len(samples), height, width, 3).clone()
        windows: list[Tensor] = []
        plans: list[WarpPlan | None] = []
        places = []
        for place, (sample, augmentation) in enumerate(zip(samples, augmentations, strict=True)):
            image = self._image(sample)
            if image is None:
                crop = crop_pixels(
                    sample.read(), augmentation, size_wh=self._size_wh, fill=self._fill
                )
                crops[place] = torch.from_numpy(crop).to(self._device)
                continue
            source_wh = (image.shape[1], image.shape[0])
            plan = augmentation.to_crop.plan(source_wh, self._size_wh, antialias=True)
            plans.append(plan)
            places.append(place)
            if plan is not None:
                left, top, right, bottom = plan.window
                windows.append(image[top:bottom, left:right].reshape(-1, 3))
        if places:
            pixels = torch.cat([self._colour()[:0].reshape(0, 3), *windows])
            made = warped(pixels, Sources.packed(WarpPlans.of(plans)), self._size_wh, self._fill)
            crops[places] = self._finished(made, [augmentations[place] for place in places])
        return crops

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
        return torch.where(covered[..., None], self._colour(), crops)

    def _image(self, sample: PoseSample) -> Tensor | None:
        """The whole image on the device, (H, W, 3) uint8; None if there is no room for it."""
        file = sample.image.file
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

    def _colour(self) -> Tensor:
        return torch.tensor(self._fill, dtype=torch.uint8, device=self._device)


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()
