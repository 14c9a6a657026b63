"""Images as callers in Python have them: paths, arrays of all kinds, Pillow's, nothing at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import ORIENTATION, an_image, save_image
from PIL import Image

from posepipe.errors import ImageError, OptionError
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageFile
from posepipe.io.inputs import image_files, is_live, one_image

RGBA = np.dstack([an_image(), np.full((6, 8), 255, np.uint8)])


def test_an_rgb_array_is_taken_as_it_is() -> None:
    array = an_image()
    image = one_image(array)
    assert image.id == 1
    assert image.read() is array
    assert image.size_wh == (8, 6)


@pytest.mark.parametrize(
    ("given", "colour"),
    [
        (an_image()[:, :, ::-1], "bgr"),
        (np.ascontiguousarray(an_image()[:, :, ::-1]), "bgr"),
        (RGBA, "rgb"),
        (RGBA[:, :, [2, 1, 0, 3]], "bgr"),
        (Image.fromarray(an_image()), "rgb"),
        (Image.fromarray(an_image()), "bgr"),  # the colours of Pillow's images are known
        (Image.fromarray(RGBA), "rgb"),
    ],
)
def test_the_same_image_in_other_forms_gives_the_same_pixels(given, colour) -> None:
    image = one_image(given, colour=colour)
    np.testing.assert_array_equal(image.read(), an_image())
    assert image.read().flags.c_contiguous


@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 1)])
def test_a_grey_array_has_three_equal_channels(shape) -> None:
    grey = np.arange(48, dtype=np.uint8).reshape(shape)
    pixels = one_image(grey).read()
    assert pixels.shape == (6, 8, 3)
    for channel in range(3):
        np.testing.assert_array_equal(pixels[:, :, channel], grey.reshape(6, 8))


def test_what_is_transparent_is_laid_on_white() -> None:
    clear = np.zeros((2, 2, 4), np.uint8)
    assert (one_image(clear).read() == 255).all()
    assert (one_image(Image.fromarray(clear)).read() == 255).all()


def test_pillows_images_are_turned_upright_and_stay_as_they_are(tmp_path: Path) -> None:
    path = save_image(tmp_path / "turned.png", orientation=6)
    with Image.open(path) as opened:
        pixels = one_image(opened).read()
        opened.load()  # still open, still turned
        assert opened.getexif()[ORIENTATION] == 6
    np.testing.assert_array_equal(pixels, find_images([path]).images[0].read())


def test_a_truncated_one_says_so_when_its_turn_comes(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(99, 99, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    content = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "a.jpg") as opened:
        image = one_image(opened)
    with pytest.raises(ImageError, match="is damaged or truncated"):
        image.read()


def test_a_path_is_read_when_its_turn_comes(tmp_path: Path) -> None:
    image = one_image(str(tmp_path / "a.png"))
    save_image(tmp_path / "a.png")
    np.testing.assert_array_equal(image.read(), an_image())
    assert image.file_name == "a.png"


def test_an_item_keeps_its_id() -> None:
    item = ImageFile(7, Path("a"), "a", an_image())
    assert one_image(item) is item
    assert [image.id for image in image_files([an_image(), item])] == [1, 7]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (None, "None, not an image: the camera or video gave nothing"),
        (3, "an int: give a path, a numpy array of uint8 or a Pillow image"),
        (np.zeros((0, 0, 3), np.uint8), r"shape \(0, 0, 3\), \(H, W, 3\) is needed$"),
        (np.zeros(5, np.uint8), r"shape \(5,\)"),
        (np.zeros((4, 4, 2), np.uint8), r"shape \(4, 4, 2\)"),
        (np.zeros((3, 9, 9), np.uint8), r"channels come last, \.transpose\(1, 2, 0\)"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"several images, use stream\(\)"),
        (np.zeros((4, 4, 3), np.float32), r"float32, uint8 is needed.*\(255 \* x\)\.round\(\)"),
        (np.zeros((4, 4, 3), np.uint16), r"uint16, uint8 is needed.*scale it to 0…255"),
        (np.zeros((4, 4, 3), bool), "bool, uint8 is needed"),
        (Image.new("F", (2, 2)), "floating-point pixels"),
    ],
)
def test_what_is_no_image_says_so_in_one_line_when_it_is_read(given, reason: str) -> None:
    for image in (one_image(given), *image_files([given])):
        with pytest.raises(ImageError, match=f"^image-1:? .*{reason}") as caught:
            image.read()
        assert "\n" not in str(caught.value)


def test_an_unknown_order_of_colours_is_refused() -> None:
    for function in (one_image, image_files):
        with pytest.raises(OptionError, match="'rgb' or 'bgr', got 'BGR'"):
            function(an_image(), colour="BGR")


def test_several_images_are_taken_one_by_one() -> None:
    images = iter(image_files(an_image() for _ in iter(int, 1)))  # without end
    assert [next(images).id, next(images).id] == [1, 2]
    assert [image.id for image in image_files(np.stack([an_image()] * 3))] == [1, 2, 3]
    assert [image.id for image in image_files(an_image())] == [1]
    assert list(image_files([])) == []


def test_what_has_no_length_is_live(tmp_path: Path) -> None:
    class Camera:
        def __iter__(self):
            return iter([an_image()])

    save_image(tmp_path / "a.png")
    live = [Camera(), iter([an_image()]), (frame for frame in ())]
    fixed = [
        an_image(),
        [an_image()],
        "a.png",
        tmp_path,
        find_images([tmp_path]),
        Image.new("L", (2, 2)),
    ]
    assert [is_live(images) for images in live] == [True] * 3
    assert [is_live(images) for images in fixed] == [False] * len(fixed)
