"""Images on the disk: whole, in the right colours, or an error of one line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from posepipe.drawing.save import save_image
from posepipe.errors import ImageError


def test_a_png_holds_the_very_pixels(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    save_image(tmp_path / "a.png", rgb)
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), rgb)


@pytest.mark.parametrize("name", ["a.jpg", "a.JPEG", "deep/er/a.jpg"])
def test_a_jpeg_keeps_a_red_line_of_one_pixel_red(tmp_path, name):
    rgb = np.full((32, 32, 3), 255, np.uint8)
    rgb[:, 13] = [255, 0, 0]
    save_image(tmp_path / name, rgb)
    with Image.open(tmp_path / name) as image:
        assert image.format == "JPEG"
        red = np.asarray(image)[16, 13].astype(int)
    assert np.abs(red - [255, 0, 0]).max() < 40


def test_nothing_but_the_image_is_left_in_the_folder(tmp_path):
    save_image(tmp_path / "a.png", np.zeros((2, 2, 3), np.uint8))
    save_image(tmp_path / "a.png", np.ones((3, 3, 3), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_threads_that_write_the_same_image_do_not_disturb_each_other(tmp_path):
    path = tmp_path / f"{'x' * 251}.png"  # as long as a name can be

    def write(value):
        for _ in range(50):
            save_image(path, np.full((2, 2, 3), value, np.uint8))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("name", "rgb", "message"),
    [
        ("a.gif", np.zeros((2, 2, 3), np.uint8), r"as \.jpg or \.png, not as '\.gif'"),
        ("a", np.zeros((2, 2, 3), np.uint8), "not as ''"),
        ("a.png", np.zeros((0, 2, 3), np.uint8), r"uint8 RGB is needed, got \(0, 2, 3\)"),
        ("a.png", np.zeros((2, 2), np.uint8), r"got \(2, 2\)"),
        ("a.png", np.zeros((2, 2, 3), float), "float64"),
        ("a.jpg", np.zeros((1, 70000, 3), np.uint8), "70000x1 pixels cannot be written"),
        ("file/a.png", np.zeros((2, 2, 3), np.uint8), "cannot be written"),
        ("folder.png", np.zeros((2, 2, 3), np.uint8), "cannot be written"),
    ],
)
def test_what_cannot_be_written_is_one_line_and_leaves_nothing(tmp_path, name, rgb, message):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ImageError, match=message) as error:
        save_image(tmp_path / name, rgb)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]
