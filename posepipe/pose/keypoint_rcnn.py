"""Keypoint R-CNN (Mask R-CNN with a keypoint head; He et al. 2017) as a pose model.

Its keypoint head looks at features of the whole image inside given boxes, not at crops: the
backbone runs once per image. The boxes are the detection stage's, whatever detector found them; in
its own boxes the keypoints are torchvision's own, or detectron2's.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import keypointrcnn_inference
from torchvision.models.detection.transform import resize_boxes, resize_keypoints

from posepipe.core.boxes import Detections, clip
from posepipe.core.poses import Poses
from posepipe.core.skeleton import Skeleton
from posepipe.io.images import ImageFile
from posepipe.networks.folding import fold_batch_norms
from posepipe.networks.precision import run_in_precision
from posepipe.pose.networks.keypoint_heads import KeypointNetwork
from posepipe.pose.networks.keypoint_rcnn import KeypointRCNNDecoding

_NEAR = 2  # cells of 56
_BOXES_AT_ONCE = 100  # as many as an image has by itself: more would take gigabytes


@dataclass(frozen=True)
class KeypointRCNN:
    """The network with its name.

    Attributes:
        name: the recipe's.
        keypoints: the network, in evaluation mode on its device.
        skeleton: what its keypoints are.
        device: where it runs.
        weights_sha256: of the weights file.
        dtype: of convolutions; box arithmetic stays in float32.
        runtime: what computes it, with its version.
    """

    name: str
    keypoints: KeypointNetwork
    skeleton: Skeleton
    device: torch.device
    weights_sha256: str = ""
    dtype: torch.dtype = torch.float32
    runtime: str = f"torchvision {torchvision.__version__}"


@dataclass(frozen=True, eq=False)
class ReadyImage:
    """An image and where its people are.

    Attributes:
        detections: the people.
        pixels: (H, W, 3) uint8 RGB; empty where there is nobody.
    """

    detections: Detections
    pixels: npt.NDArray[np.uint8]

    @property
    def nbytes(self) -> int:
        """The memory that the pixels take."""
        return self.pixels.nbytes


class KeypointRCNNStage:
    """A pose stage around a Keypoint R-CNN; several threads may use it.

    A keypoint's confidence is the part of its heatmap's softmax that lies within 2 of 56 cells of
    the peak, which is what the head is trained to give the keypoint's place; torchvision itself
    gives the logit, which has no bounds, and detectron2 the peak's own part.

    Attributes:
        models: the one model.
        skeleton: what its keypoints are.
        decoding: for the record.
        batch_size: images that are gathered; they run one after the other.
    """

    batch_size = 4

    def __init__(
        self,
        model: KeypointRCNN,
        *,
        decoding: KeypointRCNNDecoding | None = None,
    ) -> None:
        """Take over a model.

        Args:
            model: with its weights; changed in place.
            decoding: the recipe's.
        """
        fold_batch_norms(model.keypoints.network.eval())
        run_in_precision(model.keypoints.lower_precision_parts(), model.dtype)
        model.keypoints.network.requires_grad_(False).to(model.device)
        self.models = (model,)
        self.decoding = decoding or KeypointRCNNDecoding()
        self.skeleton = model.skeleton
        self._lock = threading.Lock()

    def prepare(self, item: tuple[ImageFile, Detections]) -> ReadyImage:
        """Read the image, unless nobody is in it.

        Raises:
            ImageError: the image cannot be read.
        """
        image_file, detections = item
        if not len(detections):
            return ReadyImage(detections, np.zeros((0, 0, 3), np.uint8))
        return ReadyImage(detections, image_file.read())

    def weight(self, ready: ReadyImage) -> int:
        """1, or 0 for nobody."""
        return min(len(ready.detections), 1)

    def __call__(self, batch: Sequence[ReadyImage]) -> list[Poses]:
        """The poses of each image, in order; scores are the detector's, unchanged."""
        return [self._poses(ready) for ready in batch]

    def _poses(self, ready: ReadyImage) -> Poses:
        found = ready.detections
        keypoints = np.zeros((0, len(self.skeleton), 3))
        if len(found):
            with self._lock, torch.inference_mode():
                keypoints = self._keypoints(ready).double().cpu().numpy()
        return Poses(
            image_id=found.image_id,
            keypoints=keypoints,
            scores=found.scores.astype(np.float64),
            boxes_xyxy=found.boxes_xyxy.astype(np.float64),
            box_scores=found.scores.astype(np.float64),
            skeleton=self.skeleton,
        )

    def _keypoints(self, ready: ReadyImage) -> Tensor:
        """(N, K, 3): x, y in the image's pixels, confidence."""
        [model] = self.models
        keypoints, given = model.keypoints, ready.pixels.shape[:2]
        seen = keypoints.see(ready.pixels, model.device)
        boxes = clip(ready.detections.boxes_xyxy, (given[1], given[0]))
        rois = resize_boxes(torch.from_numpy(boxes).float().to(model.device), given, seen.shape_hw)
        found = []
        for part in rois.split(_BOXES_AT_ONCE):
            logits = keypoints.logits(seen, part)
            [points], _ = keypointrcnn_inference(logits, [part])
            xy = resize_keypoints(points, seen.shape_hw, given)[..., :2] - keypoints.origin
            found.append(torch.cat([xy, _mass_at_peak(logits)[..., None]], dim=-1))
        return torch.cat(found)


def _mass_at_peak(logits: Tensor) -> Tensor:
    """(N, K): the part of the softmax of (N, K, 56, 56) logits that lies near its peak."""
    side = logits.shape[-1]
    share = logits.flatten(2).softmax(dim=-1)
    near = 2 * _NEAR + 1
    window = F.avg_pool2d(share.unflatten(2, (-1, side)), near, stride=1, padding=_NEAR) * near**2  # type: ignore[no-untyped-call]
    peaks = share.argmax(dim=-1, keepdim=True)
    return window.flatten(2).gather(2, peaks)[..., 0].clamp(0, 1)
