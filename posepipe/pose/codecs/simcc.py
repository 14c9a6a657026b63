"""SimCC (Li et al. 2022): a keypoint's x and its y, each as a vector of fine bins."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from posepipe.networks.devices import constant
from posepipe.pose.codecs.base import Codec, CodecTable, Response
from posepipe.zoo.bounds import Count, Factor


class SimCCTable(CodecTable, frozen=True):
    """The table ``[decoding]`` with ``codec = "simcc"``, that of RTMPose and its kin.

    Attributes:
        bins_per_pixel: bin b stands for the crop's pixel b / bins_per_pixel.
        sigma_xy: bins; of the targets. RTMPose's for 256x192.
    """

    codec: Literal["simcc"] = "simcc"
    bins_per_pixel: Count = 2
    sigma_xy: tuple[Factor, Factor] = (4.9, 5.66)


class SimCCCodec(Codec):
    """Vectors (B, K, width * bins) for x and (B, K, height * bins) for y.

    A keypoint's confidence is the lower one of the two peaks.
    """

    def __init__(self, table: SimCCTable) -> None:
        self.table = table

    def encode(self, points_xy: Tensor, size_wh: tuple[int, int]) -> Response:
        """See `Codec.encode`; a Gaussian of peak 1 in each vector."""
        density = self.table.bins_per_pixel
        vectors = []
        for axis, (side, sigma) in enumerate(zip(size_wh, self.table.sigma_xy, strict=True)):
            away = torch.arange(side * density, device=points_xy.device)
            away = away - points_xy[..., axis, None] * density
            vectors.append(torch.exp(-(away**2) / (2 * sigma**2)))
        return tuple(vectors)

    def measure(self, response: Response) -> Tensor:
        """See `Codec.measure`: x, y and the confidence."""
        x, y = (vectors.float().max(dim=-1) for vectors in response)
        points = torch.stack([x.indices, y.indices], dim=-1) / self.table.bins_per_pixel
        confidences = torch.minimum(x.values, y.values).clamp(0, 1)
        return torch.cat([points, confidences[..., None]], dim=-1)

    def flip(self, response: Response, mirrored: tuple[int, ...]) -> Response:
        """See `Codec.flip`.

        Pixel x becomes width - 1 - x, so that the mirrored vector lies bins_per_pixel - 1 too far.
        """
        x, y = (
            vectors.index_select(1, constant(mirrored, vectors.device, torch.int64))
            for vectors in response
        )
        beyond = self.table.bins_per_pixel - 1
        x = F.pad(x.flip(-1)[..., beyond:], (0, beyond))
        return x, y

    def check(self, response: Response, keypoints: int, size_wh: tuple[int, int]) -> str:
        """See `Codec.check`."""
        wanted = [(keypoints, side * self.table.bins_per_pixel) for side in size_wh]
        found = [tuple(part.shape[1:]) for part in response]
        if found == wanted:
            return ""
        return f"gives {found}, vectors {wanted} (K, bins) for x and y are expected"
