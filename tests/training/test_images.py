"""Images are read when they are needed and kept while there is room."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from builders import save_image
from training_crops import in_memory

from posepipe.errors import ImageError
from posepipe.io.images import ImageFile
from posepipe.networks.resources import free_memory
from posepipe.training.images import (
    ImageCache,
    TrainingImage,
    image_cache,
)

BYTES = 8 * 6 * 3  # of an image


@pytest.fixture
def files(tmp_path):
    paths = [save_image(tmp_path / f"{number}.png") for number in range(3)]
    return [ImageFile(number, path, path.name) for number, path in enumerate(paths)]


def test_a_kept_image_is_decoded_once(files):
    image = TrainingImage(files[0], ImageCache(10 * BYTES))
    pixels = image.read()
    files[0].path.unlink()
    assert image.read() is pixels
    assert not pixels.flags.writeable  # others see the same pixels


def test_without_a_cache_an_image_is_decoded_each_time(files):
    image = TrainingImage(files[0])
    assert image.read() is not image.read()
    assert np.array_equal(image.read(), image.read())


def test_no_more_is_kept_than_the_limit_allows_and_that_is_said_once(files, caplog):
    caplog.set_level(logging.INFO)
    cache = ImageCache(2 * BYTES + BYTES // 2)
    first = [cache.read(file) for file in files]
    again = [cache.read(file) for file in files]
    assert [one is other for one, other in zip(first, again, strict=True)] == [True, True, False]
    assert np.array_equal(first[2], again[2])
    assert (len(cache), cache.used_bytes) == (2, 2 * BYTES)
    [record] = caplog.records
    assert "2 images fill" in record.message


def test_pixels_in_memory_are_neither_kept_nor_changed():
    pixels = np.zeros((6, 8, 3), np.uint8)
    image = in_memory(pixels)
    cached = TrainingImage(image.file, ImageCache(10 * BYTES))
    assert image.read() is pixels
    assert cached.read() is pixels
    assert pixels.flags.writeable


def test_a_missing_image_is_an_error_when_it_is_read_and_not_before(tmp_path):
    image = TrainingImage(ImageFile(1, tmp_path / "gone.jpg", "gone.jpg"), ImageCache(BYTES))
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        image.read()


def test_a_recipe_chooses_a_cache_of_half_the_free_memory_or_none():
    assert image_cache("none") is None
    alone, one_of_four = image_cache("memory"), image_cache("memory", processes=4)
    assert 0 < alone.limit_bytes <= 0.6 * free_memory()  # free memory changes all the time
    assert one_of_four.limit_bytes < 0.5 * alone.limit_bytes
