"""Batches of images: what they hold depends on the sample's number and the seed alone."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from posepipe.detection.torchvision import Preprocessing
from posepipe.errors import ImageError, OptionError
from posepipe.io.images import ImageFile
from posepipe.training.detector.batches import DetectionBatches
from posepipe.training.detector.mosaic import MosaicTable
from posepipe.training.detector.task import DetectorTrainingTable
from posepipe.training.images import TrainingImage
from posepipe.training.samples import DetectionSample

CPU = torch.device("cpu")
GIVEN = Preprocessing(short_side=64, long_side=200)


def an_image(seed, people=2, size_wh=(100, 70)):
    random = np.random.default_rng(seed)
    low = random.uniform(0, 40, (people, 2))
    boxes = np.concatenate([low, low + 25], axis=1)
    pixels = random.integers(0, 256, (size_wh[1], size_wh[0], 3), dtype=np.uint8)
    return DetectionSample(pixels, boxes, np.zeros((0, 4)))


SETS = [[an_image(n) for n in range(5)], [an_image(9, people=0, size_wh=(60, 130))]]


def taken(count, start=0, rank=0, world=1, sets=SETS, shares=(0.8, 0.2), **fields):
    table = DetectorTrainingTable(
        **{"samples": 100, "batch": 4, "workers": 0, "sizes": (48, 64), **fields}
    )
    batches = DetectionBatches(sets, shares, table, GIVEN, device=CPU, rank=rank, world=world)
    return list(itertools.islice(batches(start), count))


def contents(batches):
    """Of every image of some batches, in order: its own pixels, boxes and seed."""
    return [
        (batch.pixels[i, :h, :w].numpy().tobytes(), batch.targets[i].boxes_xyxy.tolist(), seed)
        for batch in batches
        for i, ((h, w), seed) in enumerate(zip(batch.sizes_hw, batch.seeds, strict=True))
    ]


@pytest.mark.parametrize(
    "fields", [{}, {"images": "mosaic", "sizes": (), "mosaic": MosaicTable(side=64)}]
)
def test_beginning_at_a_number_gives_what_coming_to_it_gives(fields):
    assert contents(taken(2, start=8, **fields)) == contents(taken(4, **fields))[8:]


def test_threads_change_nothing():
    assert contents(taken(3, workers=2)) == contents(taken(3))


def test_two_processes_and_parts_of_batches_see_what_one_process_sees():
    whole = contents(taken(2))
    first, second = (contents(taken(2, rank=rank, world=2)) for rank in (0, 1))
    assert first[:2] + second[:2] + first[2:] + second[2:] == whole
    assert contents(taken(4, accumulate=2)) == whole


def test_another_seed_gives_other_images():
    assert contents(taken(1)) != contents(taken(1, seed=1))


def test_images_without_people_are_negatives_and_get_their_turn():
    numbers = [len(target.boxes_xyxy) for batch in taken(10) for target in batch.targets]
    assert 0 in numbers
    assert 2 in numbers


def test_images_are_padded_with_zeros_to_whole_cells():
    for batch in taken(5):
        assert batch.pixels.dtype == torch.uint8
        height, width = batch.pixels.shape[1:3]
        assert height % 32 == width % 32 == 0
        assert height - 32 < max(h for h, _ in batch.sizes_hw) <= height
        for pixels, (h, w) in zip(batch.pixels, batch.sizes_hw, strict=True):
            assert not pixels[h:].any()
            assert not pixels[:, w:].any()
            assert min(h, w) in (48, 64)


def test_without_sizes_images_have_the_recipes_size():
    assert {min(size) for batch in taken(3, sizes=()) for size in batch.sizes_hw} == {64}


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(OptionError, match="cannot be divided by 3"):
        taken(1, world=3)


def test_a_missing_image_is_an_error_when_its_turn_comes(tmp_path):
    lost = ImageFile(1, tmp_path / "lost.jpg", "lost.jpg")
    sample = DetectionSample(TrainingImage(lost), np.zeros((0, 4)), np.zeros((0, 4)))
    with pytest.raises(ImageError, match=r"lost\.jpg: no such file"):
        taken(1, sets=[[sample]], shares=[1.0], workers=1)
