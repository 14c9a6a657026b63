"""Batches: made of numbers alone, split among processes, made ahead, and stopped at will."""

from __future__ import annotations

import itertools
import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from training_crops import NO_AUGMENTATION, in_memory

from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import ImageError, OptionError
from posepipe.io.images import ImageFile
from posepipe.pose.crops import PreprocessingTable
from posepipe.training.images import TrainingImage
from posepipe.training.pose.augment import AugmentTable
from posepipe.training.pose.batches import PoseBatches

GIVEN = PreprocessingTable(input_size_wh=(64, 96))
AUGMENT = AugmentTable(cutout=0.5)
FIELDS = ("pixels", "points_xy", "weights", "visibility")


@dataclass(frozen=True)
class Settings:
    batch: int = 4
    accumulate: int = 1
    seed: int = 0
    workers: int = 2
    augment: AugmentTable = AUGMENT
    engine: str = "cpu"


@pytest.fixture
def sets(painted_person):
    return [[painted_person(seed) for seed in range(5)], [painted_person(9), painted_person(10)]]


def batches(sets, start=0, count=3, rank=0, world=1, **settings):
    maker = PoseBatches(
        sets,
        [1.0] * len(sets),
        Settings(**settings),
        GIVEN,
        COCO_PERSON,
        device=torch.device("cpu"),
        rank=rank,
        world=world,
    )
    stream = maker(start)
    taken = list(itertools.islice(stream, count))
    stream.close()
    return taken


def joined(parts):
    return {name: torch.cat([getattr(part, name) for part in parts]) for name in FIELDS}


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in FIELDS)


def test_a_batch_has_crops_and_labels_of_their_sizes(sets):
    [batch] = batches(sets, count=1)
    assert len(batch) == 4
    assert (batch.pixels.shape, batch.pixels.dtype) == ((4, 96, 64, 3), torch.uint8)
    assert (batch.points_xy.shape, batch.points_xy.dtype) == ((4, 17, 2), torch.float32)
    assert (batch.weights.shape, batch.weights.dtype) == ((4, 17), torch.float32)
    assert (batch.visibility.shape, batch.visibility.dtype) == ((4, 17), torch.int64)
    assert torch.equal(batch.weights > 0, batch.visibility > 0)
    assert 0 < (batch.visibility > 0).float().mean() < 1


@pytest.mark.parametrize("engine", ["cpu", "device"])
def test_the_same_numbers_give_the_same_samples_however_many_threads(sets, engine):
    runs = [joined(batches(sets, workers=workers, engine=engine)) for workers in (0, 1, 3)]
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])
    assert not same(runs[0], joined(batches(sets, seed=1, engine=engine)))


def test_both_engines_draw_the_same_samples(sets):
    cpu, device = (joined(batches(sets, engine=engine)) for engine in ("cpu", "device"))
    for name in ("points_xy", "weights", "visibility"):
        assert torch.equal(cpu[name], device[name])
    difference = (cpu["pixels"].int() - device["pixels"].int()).abs().float()
    # Spots with hard edges of up to 235 levels; OpenCV may round places to 1/32 pixel.
    assert difference.max() <= 12
    assert difference.mean() < 0.2


def test_beginning_at_a_number_is_having_come_to_it(sets):
    whole = batches(sets, count=6)
    assert same(joined(whole[4:]), joined(batches(sets, start=16, count=2)))


def test_two_processes_share_a_batch_as_one_would_make_it(sets):
    whole = batches(sets, count=3)
    first, second = (batches(sets, count=3, rank=rank, world=2) for rank in (0, 1))
    for number in range(3):
        assert len(first[number]) == 2
        assert same(joined([first[number], second[number]]), joined([whole[number]]))


def test_micro_batches_are_the_batch_in_parts(sets):
    whole = batches(sets, count=2)
    parts = batches(sets, count=4, accumulate=2)
    assert same(joined(whole), joined(parts))
    both = [batches(sets, count=4, accumulate=2, rank=rank, world=2) for rank in (0, 1)]
    assert all(len(part) == 1 for part in both[0])
    for step in range(2):
        of_step = slice(2 * step, 2 * step + 2)
        assert same(joined(both[0][of_step] + both[1][of_step]), joined([whole[step]]))


@pytest.mark.parametrize(("batch", "accumulate", "world"), [(4, 3, 1), (4, 1, 3), (4, 4, 2)])
def test_a_batch_that_cannot_be_shared_is_refused(sets, batch, accumulate, world):
    with pytest.raises(OptionError, match=f"training.batch = {batch} cannot be divided"):
        batches(sets, batch=batch, accumulate=accumulate, world=world)


def test_nobody_to_learn_from_is_refused(sets):
    with pytest.raises(OptionError, match="data set 2 of 2 has nothing to learn from"):
        batches([sets[0], []])


def test_a_person_without_augmentation_is_the_plain_crop(sets):
    [batch] = batches([sets[1][:1]], count=1, augment=NO_AUGMENTATION)
    assert torch.equal(batch.pixels[0], batch.pixels[3])
    # The box is 0.7 of 96 x 128 pixels; with 0.1 of its width on either side it fills 64 columns.
    expected = (sets[1][0].keypoints_xy - [47.5, 63.5]) * (64 / (0.7 * 96 * 1.2)) + [31.5, 47.5]
    assert batch.points_xy[0].numpy() == pytest.approx(expected, abs=1e-3)


def prefetching_threads():
    return [t for t in threading.enumerate() if t.name.startswith("posepipe-prefetch")]


def test_an_image_that_vanished_is_an_error_at_its_turn_and_stops_the_threads(sets, tmp_path):
    gone = TrainingImage(ImageFile(1, tmp_path / "gone.jpg", "gone.jpg"))
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        batches([[replace(sets[0][0], image=gone)]])
    assert prefetching_threads() == []


class Counting:
    """An image that counts how often it is read."""

    def __init__(self, image):
        self.image, self.reads, self.file = image, 0, image.file

    def read(self):
        self.reads += 1
        return self.image.read()


def test_no_more_is_made_ahead_than_may_wait_and_closing_stops_the_threads(sets):
    counting = Counting(sets[0][0].image)
    samples = [replace(sets[0][0], image=counting)]
    maker = PoseBatches(
        [samples], [1.0], Settings(), GIVEN, COCO_PERSON, device=torch.device("cpu")
    )
    stream = maker(0)
    next(stream)
    assert prefetching_threads()
    stream.close()
    assert prefetching_threads() == []
    assert 4 <= counting.reads <= 4 * 5  # one used, at most four ahead


def test_points_are_where_the_light_is_in_both_engines(painted_person):
    person = painted_person()
    pixels = np.zeros((128, 96, 3), np.uint8)
    x, y = np.round(person.keypoints_xy[5]).astype(int)
    pixels[y - 1 : y + 2, x - 1 : x + 2] = 255
    points = person.keypoints_xy.copy()
    points[5] = x, y
    lit = replace(person, image=in_memory(pixels), keypoints_xy=points, weights=np.ones(17))
    given = PreprocessingTable(input_size_wh=(64, 96), fill=(0, 0, 0))
    seen = 0
    for engine in ("cpu", "device"):
        settings = Settings(augment=AugmentTable(rotation=1, colour=0), engine=engine, batch=16)
        maker = PoseBatches([[lit]], [1], settings, given, COCO_PERSON, device=torch.device("cpu"))
        stream = maker(0)
        batch = next(stream)
        stream.close()
        for crop, points_xy in zip(batch.pixels.float().mean(-1), batch.points_xy, strict=True):
            rows, columns = torch.meshgrid(torch.arange(96), torch.arange(64), indexing="ij")
            if crop.sum() < 255 or crop[[0, -1]].any() or crop[:, [0, -1]].any():
                continue  # at the edge, where only a part of the light is seen
            centre = torch.stack([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
            distances = (points_xy - centre).norm(dim=1)
            assert distances[[5, 6]].min() < 0.4  # 6 is the other shoulder, of a mirror image
            seen += 1
    assert seen > 20
