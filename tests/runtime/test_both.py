"""Both stages in one go: each image read once, its pixels kept no longer than they are needed."""

from __future__ import annotations

import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
from builders import save_image
from PIL import Image

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.errors import ImageError
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.records import as_written
from posepipe.runtime.both import run_through_both
from posepipe.runtime.local import run

IMAGES = 12


class Finds:
    """As many people in an image as its id says modulo `people`, each a third of it large."""

    def __init__(self, people=3, batch_size=2):
        self.people, self.batch_size = people, batch_size

    def prepare(self, image):
        return image.id, image.read().shape

    def weight(self, ready):
        return 1

    def __call__(self, batch):
        return [self._found(*ready) for ready in batch]

    def _found(self, image_id, shape):
        count = image_id % self.people
        corners = np.arange(2 * count).reshape(count, 2) / 7
        boxes = np.concatenate([corners, corners + np.array([shape[1], shape[0]]) / 3], axis=1)
        return Detections(image_id, boxes, 0.9 - np.arange(count) / 7, (shape[1], shape[0]))


class Colours:
    """Poses that say what colour the image has at the people's corners: they need its pixels."""

    batch_size = 3

    def prepare(self, item):
        image, found = item
        pixels = image.read() if len(found) else np.zeros((1, 1, 3), np.uint8)
        corners = found.boxes_xyxy[:, :2].astype(int)
        return found, pixels[corners[:, 1], corners[:, 0]].mean(axis=-1)

    def weight(self, ready):
        return len(ready[0])

    def __call__(self, batch):
        return [
            Poses(
                found.image_id,
                np.broadcast_to(grey[:, None, None] / 255, (len(found), 17, 3)).copy(),
                found.scores,
                found.boxes_xyxy,
                found.scores,
            )
            for found, grey in batch
        ]


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    for n in range(1, IMAGES + 1):
        save_image(tmp_path / f"pictures/{n}.png", 20 + n, 30)
    return find_images([tmp_path / "pictures"])


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that Pillow opened."""
    names: list[str] = []
    really_open = Image.open

    def count(path, *arguments, **named):
        names.append(Path(path).name)
        return really_open(path, *arguments, **named)

    monkeypatch.setattr(Image, "open", count)
    return names


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_numbers_are_those_of_one_stage_after_the_other(images, workers) -> None:
    found = [(outcome.item, as_written(outcome.result)) for outcome in run(Finds(), images)]
    apart = [outcome.result for outcome in run(Colours(), found)]
    outcomes = list(run_through_both(Finds(), Colours(), images, workers=workers))
    assert [outcome.item for outcome in outcomes] == list(images)
    for outcome, poses in zip(outcomes, apart, strict=True):
        for name in ("keypoints", "scores", "boxes_xyxy"):
            np.testing.assert_array_equal(getattr(outcome.result, name), getattr(poses, name))


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_is_opened_once(images, opened, workers) -> None:
    assert len(list(run_through_both(Finds(), Colours(), images, workers=workers))) == IMAGES
    assert sorted(opened) == sorted(f"{n}.png" for n in range(1, IMAGES + 1))


def test_an_image_that_vanishes_once_it_is_read_is_done_all_the_same(images) -> None:
    class Removes(Finds):
        def __call__(self, batch):
            for image_id, _ in batch:
                (images.root / f"{image_id}.png").unlink()
            return super().__call__(batch)

    outcomes = list(run_through_both(Removes(), Colours(), images))
    assert [outcome.error for outcome in outcomes] == [None] * IMAGES
    assert list(images.root.iterdir()) == []


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bad", [(1,), (5, 6), (12,), tuple(range(1, 13))])
def test_an_image_that_cannot_be_read_fails_at_its_turn_and_disturbs_no_other(
    images, bad, workers
) -> None:
    for n in bad:
        (images.root / f"{n}.png").write_bytes(b"no image")
    outcomes = list(run_through_both(Finds(), Colours(), images, workers=workers))
    assert [outcome.item.id for outcome in outcomes] == list(range(1, IMAGES + 1))
    for outcome in outcomes:
        assert isinstance(outcome.error, ImageError) == (outcome.item.id in bad)
        assert (outcome.result is None) == (outcome.item.id in bad)


@pytest.mark.parametrize("people", [1, 3])  # nobody anywhere; up to two in an image
@pytest.mark.parametrize(("batch_size", "least"), [(2, 2), (40, 4)])
def test_pixels_are_let_go_as_soon_as_crops_are_cut(tmp_path, people, batch_size, least) -> None:
    side, count = 64, 60
    lock, alive, most = threading.Lock(), 0, 0

    def change(by: int) -> None:
        nonlocal alive, most
        with lock:
            alive += by
            most = max(most, alive)

    class Counted(ImageFile):
        def read(self):
            if self.pixels is not None:
                return self.pixels
            pixels = np.zeros((side, side, 3), np.uint8)
            change(+1)
            weakref.finalize(pixels, change, -1)
            return pixels

    images = [Counted(n, tmp_path, "a") for n in range(1, count + 1)]
    bound = 3  # images
    stream = run_through_both(
        Finds(people, batch_size), Colours(), images, workers=2, most_bytes=bound * 3 * side**2
    )
    assert len(list(stream)) == count
    # What may wait, a batch of the detector, and what two threads were reading meanwhile.
    assert most <= bound + least + 2
    assert alive == 0


def test_closing_the_stream_stops_the_threads_of_both_stages(images) -> None:
    endless = (ImageFile(n, images.root / "1.png", "1.png") for n in iter(int, 1))
    stream = run_through_both(Finds(), Colours(), endless, workers=2)
    next(stream)
    assert [t for t in threading.enumerate() if t.name.startswith("posepipe-prefetch")]
    stream.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("posepipe-prefetch")]
