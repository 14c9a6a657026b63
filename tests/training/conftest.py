"""People painted for training: a spot for every keypoint, each in a colour of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import annotation, annotation_file, image_entry, save_image
from PIL import Image
from small_sets import entry, size_wh
from training_crops import in_memory

from posepipe.training.data import DataTable
from posepipe.training.samples import PoseSample


@pytest.fixture
def painted_person() -> Callable[..., PoseSample]:
    """Makes a person of 17 coloured spots in a dark image, a sixth of them not annotated."""

    def make(seed: int = 0, size_wh: tuple[int, int] = (96, 128)) -> PoseSample:
        random = np.random.default_rng(seed)
        width, height = size_wh
        points = random.uniform([0.2 * width, 0.2 * height], [0.8 * width, 0.8 * height], (17, 2))
        pixels = np.full((height, width, 3), 20, np.uint8)
        rows, columns = np.mgrid[:height, :width]
        for k, (x, y) in enumerate(points):
            near = (columns - x) ** 2 + (rows - y) ** 2 < 9
            pixels[near] = [60 + 195 * (k // 9), 60 + 97 * (k // 3 % 3), 60 + 97 * (k % 3)]
        weights = np.ones(17)
        weights[::6] = 0
        box = np.array([0.15 * width, 0.15 * height, 0.85 * width, 0.85 * height])
        return PoseSample(
            in_memory(pixels),
            box,
            points,
            weights,
            visibility=2 * weights,
            area=0.4 * width * height,
        )

    return make


@pytest.fixture
def painted_set(painted_person: Callable[..., PoseSample], tmp_path: Path) -> Callable[..., Path]:
    """Writes an annotation file `NAME.json` of painted people, its images beside it.

    The people are the same whatever the name; the files differ with the level of compression.
    """

    def write(people: int = 4, name: str = "people", compress_level: int = 6) -> Path:
        entries, images = [], []
        for number in range(1, people + 1):
            person = painted_person(number)
            pixels = person.read()
            height, width = pixels.shape[:2]
            file_name = f"{name}-{number}.png"
            Image.fromarray(pixels).save(tmp_path / file_name, compress_level=compress_level)
            images.append(image_entry(number, file_name=file_name, width=width, height=height))
            x1, y1, x2, y2 = person.box_xyxy.tolist()
            keypoints = [
                value
                for (x, y), v in zip(person.keypoints_xy, person.visibility, strict=True)
                for value in (float(x), float(y), int(v))
            ]
            labelled = int((person.visibility > 0).sum())
            entries.append(
                annotation(
                    number,
                    number,
                    bbox=[x1, y1, x2 - x1, y2 - y1],
                    area=person.area,
                    keypoints=keypoints,
                    num_keypoints=labelled,
                )
            )
        return annotation_file(tmp_path / f"{name}.json", entries, images)

    return write


@pytest.fixture
def make_set(tmp_path):
    """Makes a data set of two images and two people; what is given replaces its parts."""

    def make(name, annotations=None, images=None, **changes):
        folder = tmp_path / name
        for number in (1, 2):
            save_image(folder / f"{name}-{number}.png", *size_wh(name, number))
        if images is None:
            images = [entry(name, number) for number in (1, 2)]
        if annotations is None:
            annotations = [annotation(1), annotation(2, image_id=2)]
        path = annotation_file(tmp_path / f"{name}.json", annotations, images, **changes)
        return DataTable(annotations=str(path), images=str(folder))

    return make
