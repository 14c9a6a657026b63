"""How others run the same networks, for `benchmark.py --peers`; written from descriptions.

Each is a function from people or images to how many were done; reading the files is part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.functional import to_tensor

from posepipe.core.boxes import Detections
from posepipe.detection.torchvision import Preprocessing
from posepipe.io.images import ImageFile
from posepipe.pose.crops import PreprocessingTable

People = Sequence[tuple[ImageFile, Detections]]
Crop = npt.NDArray[np.float32]


def ancestors(people: People, network: nn.Module, table: PreprocessingTable) -> int:
    """The test loop of the two public CPN code bases: a person at a time, 17 blurs in Python.

    For each person the image is padded and the window cut and resized, the crop and its mirror
    image go through the network, and every heatmap is normalised, padded, blurred (21 x 21) and
    searched twice.
    """
    done = 0
    for image, found in people:
        pixels = cv2.imread(str(image.path))
        for box in found.boxes_xyxy:
            crop = _window(pixels, box, table)[:, :, ::-1]
            images = (crop - np.float32(table.mean)) / np.float32(table.std)
            with torch.no_grad():
                straight = network(_batch(images))[0].numpy()
                mirrored = network(_batch(images[:, ::-1]))[0].numpy()[:, :, ::-1]
            maps = (straight + mirrored) / 2  # channels swapped alike, which costs nothing
            for heatmap in maps:
                _decoded(heatmap)
            done += 1
    return done


def one_box_at_a_time(people: People, session: Any, table: PreprocessingTable) -> int:
    """A box a forward pass in ONNX Runtime, without a mirror image, decoded by its maxima."""
    name, done = session.get_inputs()[0].name, 0
    width, height = table.input_size_wh
    for image, found in people:
        pixels = cv2.imread(str(image.path))
        for box in found.boxes_xyxy:
            corners, centre = (box[2:] - box[:2]) * 1.25, (box[2:] + box[:2]) / 2
            scale = max(corners[0] / width, corners[1] / height)
            matrix = np.array([[1 / scale, 0, width / 2 - centre[0] / scale]])
            matrix = np.vstack([matrix, [[0, 1 / scale, height / 2 - centre[1] / scale]]])
            crop = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR)
            images = (crop[:, :, ::-1] - np.float32(table.mean)) / np.float32(table.std)
            [maps] = session.run(None, {name: _planes(images)})
            cells = maps[0].reshape(len(maps[0]), -1).argmax(axis=1)
            np.stack([cells % maps.shape[-1], cells // maps.shape[-1]], axis=1)
            done += 1
    return done


def torchvisions_own(images: Sequence[ImageFile], network: Any, table: Preprocessing) -> int:
    """Torchvision's detector as its documentation calls it: an image a call, its own transform."""
    transform = GeneralizedRCNNTransform(
        table.short_side, table.long_side, list(table.mean), list(table.std)
    )
    before, network.transform = network.transform, transform.eval()
    try:
        for image in images:
            with Image.open(image.path) as opened, torch.no_grad():
                network([to_tensor(opened.convert("RGB"))])
    finally:
        network.transform = before
    return len(images)


def _window(image: npt.NDArray[Any], box: npt.NDArray[Any], table: PreprocessingTable) -> Crop:
    """A person's window of an image that is padded by its longer side, resized."""
    width, height = table.input_size_wh
    pad = max(image.shape[:2])
    padded = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=table.fill)
    centre, size = (box[:2] + box[2:]) / 2 + pad, (box[2:] - box[:2]) * [1.2, 1.3]
    size = np.maximum(size, [size[1] * width / height, size[0] * height / width])
    low, high = np.maximum(centre - size / 2, 0).astype(int), (centre + size / 2).astype(int)
    return cv2.resize(padded[low[1] : high[1], low[0] : high[0]], (width, height)).astype(
        np.float32
    )


def _decoded(heatmap: Crop) -> tuple[float, float]:
    """One heatmap's keypoint: blurred, its highest cell, a quarter towards the second highest."""
    blurred = np.zeros((heatmap.shape[0] + 20, heatmap.shape[1] + 20), np.float32)
    blurred[10:-10, 10:-10] = heatmap / heatmap.max()
    blurred = cv2.GaussianBlur(blurred, (21, 21), 0)[10:-10, 10:-10]
    y, x = np.unravel_index(blurred.argmax(), blurred.shape)
    blurred[y, x] = 0
    second_y, second_x = np.unravel_index(blurred.argmax(), blurred.shape)
    distance = float(np.hypot(second_x - x, second_y - y)) or 1.0
    return x + 0.25 * (second_x - x) / distance, y + 0.25 * (second_y - y) / distance


def _planes(image: Crop) -> Crop:
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32)


def _batch(image: Crop) -> torch.Tensor:
    return torch.from_numpy(_planes(image))
