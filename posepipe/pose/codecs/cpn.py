"""CPN's codec: heatmaps of an amplitude, filtered, the highest cell and a quarter beyond it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from posepipe.pose.codecs.base import Codec, Response
from posepipe.pose.heatmaps import DecodingTable, decode, encode, mirror_back

_SIGMA = 2.0  # cells


class CPNCodec(Codec):
    """Heatmaps whose cells are squares of crop pixels (`posepipe.pose.heatmaps`)."""

    def __init__(self, table: DecodingTable) -> None:
        self.table = table

    def encode(self, points_xy: Tensor, size_wh: tuple[int, int]) -> Response:
        """See `Codec.encode`; one Gaussian for each keypoint."""
        table = self.table
        shape_hw = size_wh[1] // table.stride, size_wh[0] // table.stride
        maps = encode(
            points_xy, shape_hw, stride=table.stride, sigma=_SIGMA, amplitude=table.amplitude
        )
        return (maps,)

    def measure(self, response: Response) -> Tensor:
        """See `Codec.measure`: x, y and the confidence."""
        found = decode(response[0], self.table)
        return torch.cat([found.points_xy, found.confidences[..., None]], dim=-1)

    def flip(self, response: Response, mirrored: tuple[int, ...]) -> Response:
        """See `Codec.flip`."""
        return (mirror_back(response[0], mirrored),)

    def check(self, response: Response, keypoints: int, size_wh: tuple[int, int]) -> str:
        """See `Codec.check`."""
        return heatmaps_at_fault(response, keypoints, size_wh, self.table.stride)

    def average(self, responses: Sequence[Response], codecs: Sequence[Codec]) -> Response:
        """See `Codec.average`; in the size and amplitude of this codec."""
        if len(responses) == 1:
            return responses[0]
        first = responses[0][0]
        scaled = []
        for (maps,), codec in zip(responses, codecs, strict=True):
            if maps.shape[-2:] != first.shape[-2:]:
                size = first.shape[-2:]
                maps = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
            if isinstance(codec, CPNCodec) and codec.table.amplitude != self.table.amplitude:
                maps = maps * (self.table.amplitude / codec.table.amplitude)
            scaled.append((maps,))
        return super().average(scaled, codecs)


def heatmaps_at_fault(
    response: Response, keypoints: int, size_wh: tuple[int, int], stride: int
) -> str:
    """What is wrong with the shapes of heatmaps; "" if nothing is."""
    shape = (keypoints, size_wh[1] // stride, size_wh[0] // stride)
    found = [tuple(part.shape[1:]) for part in response]
    if found == [shape]:
        return ""
    return f"gives {found}, heatmaps {shape} (K, h, w) are expected"
