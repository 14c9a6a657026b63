"""What all codecs have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from posepipe.networks.devices import fetched
from posepipe.pose.heatmaps import CropKeypoints
from posepipe.zoo.recipe import Table

Numbers: TypeAlias = npt.NDArray[np.float32]
Response: TypeAlias = tuple[Tensor, ...]
"""What a network gives for B crops: heatmaps alone, or vectors for x and for y."""


class CodecTable(Table, frozen=True):
    """What every codec's table ``[decoding]`` has.

    Attributes:
        flip: average with the response to the mirror image (CPN, section 4.1).
    """

    flip: bool = True


class Codec(ABC):
    """How keypoints are written as a network's response, and read off it.

    Points are (x, y) crop pixels, integers being pixel centres, whatever the network's own
    convention.
    """

    @abstractmethod
    def encode(self, points_xy: Tensor, size_wh: tuple[int, int]) -> Response:
        """The response that a perfect network would give: what it is trained towards.

        Args:
            points_xy: (B, K, 2).
            size_wh: width and height of the crops.
        """

    def decode(self, response: Response, size_wh: tuple[int, int]) -> CropKeypoints:
        """Where the keypoints of B crops are; B = 0 is legal.

        Args:
            response: the network's, or `average`'s.
            size_wh: width and height of the crops.
        """
        [numbers] = fetched(self.measure(response))()
        return self.keypoints(numbers, size_wh)

    @abstractmethod
    def measure(self, response: Response) -> Tensor:
        """(B, K, M) float32, where the response is: the few numbers that `keypoints` needs of it.

        A device computes them and the host need not wait for any.
        """

    def keypoints(self, numbers: Numbers, size_wh: tuple[int, int]) -> CropKeypoints:
        """The keypoints of B crops of a size, by what `measure` gives of the responses to them.

        Here it gives x, y and the confidence.
        """
        found = torch.from_numpy(numbers)
        return CropKeypoints(found[..., :2], found[..., 2])

    @abstractmethod
    def flip(self, response: Response, mirrored: tuple[int, ...]) -> Response:
        """The response to mirror images, turned into one to the images themselves.

        Args:
            response: the network's response to the mirrored crops.
            mirrored: `Skeleton.mirrored`: the channel that takes each keypoint's place.
        """

    @abstractmethod
    def check(self, response: Response, keypoints: int, size_wh: tuple[int, int]) -> str:
        """What is wrong with the shapes of a network's response; "" if nothing is."""

    def average(self, responses: Sequence[Response], codecs: Sequence[Codec]) -> Response:
        """The mean of several responses to the same crops.

        Args:
            responses: of this codec's network, its mirror image, other networks.
            codecs: of each response.
        """
        if len(responses) == 1:
            return responses[0]
        means = []
        for first, *others in zip(*responses, strict=True):
            total = first
            for part in others:
                total = total + part.to(total.device)
            means.append(total.div_(len(responses)))  # a sum is ours to change
        return tuple(means)
