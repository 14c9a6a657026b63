"""Images read: every kind of file and pixel, and what is said of damaged ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from builders import ORIENTATION, an_image, save_image
from PIL import Image, ImageOps, features

from posepipe.errors import ImageError, ImageTooLargeError
from posepipe.io.images import ImageFile, ImageSet


def file_at(path: Path) -> ImageFile:
    return ImageFile(1, path, path.name)


def test_an_image_is_read_as_rgb(tmp_path: Path) -> None:
    image = file_at(save_image(tmp_path / "a.png"))
    pixels = image.read()
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels, an_image())
    assert image.size_wh == (8, 6)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_honoured(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = save_image(tmp_path / f"a{suffix}", 32, 16, orientation=orientation)
    with Image.open(path) as image_file:
        expected = np.array(ImageOps.exif_transpose(image_file).convert("RGB"))
    image = file_at(path)
    np.testing.assert_array_equal(image.read(), expected)
    assert image.size_wh == (expected.shape[1], expected.shape[0])
    assert (image.size_wh == (16, 32)) == (orientation >= 5)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 40_000), (40_000, 3), (701, 333)])
def test_images_of_any_size_are_read_pixel_by_pixel(
    tmp_path: Path, width: int, height: int
) -> None:
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(file_at(tmp_path / "a.png").read(), pixels)


def test_an_orientation_that_does_not_exist_counts_as_upright(tmp_path: Path) -> None:
    image = file_at(save_image(tmp_path / "a.png", orientation=77))
    np.testing.assert_array_equal(image.read(), an_image())


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("1", 1, (255, 255, 255)),
        ("L", 100, (100, 100, 100)),
        ("LA", (100, 255), (100, 100, 100)),
        ("LA", (100, 0), (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
        ("I;16", 0x8123, (0x81, 0x81, 0x81)),
        ("I", 0x8123, (0x81, 0x81, 0x81)),
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 255), (1, 2, 3)),
        ("RGBA", (1, 2, 3, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("CMYK", (0, 255, 255, 0), (255, 0, 0)),
    ],
)
def test_every_kind_of_pixel_becomes_rgb(
    tmp_path: Path, mode: str, colour: int | tuple[int, ...], expected: tuple[int, int, int]
) -> None:
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I") else "a.png")
    Image.new(mode, (4, 3), colour).save(path)
    pixels = file_at(path).read()
    assert pixels.shape == (3, 4, 3)
    assert pixels[0, 0].tolist() == list(expected)
    assert (pixels == pixels[0, 0]).all()


def test_a_transparent_palette_entry_shows_white(tmp_path: Path) -> None:
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    palette.save(tmp_path / "a.png", transparency=0)
    assert file_at(tmp_path / "a.png").read()[0].tolist() == [[255] * 3, [40, 50, 60]]


def test_a_cmyk_jpeg_is_not_read_inside_out(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=95)
    red, green, blue = file_at(tmp_path / "a.jpg").read()[8, 8].tolist()
    assert red > 240
    assert max(green, blue) < 15


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.new("F", (2, 2), 0.5).save(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=r"a\.tif has floating-point pixels.*save it with 8 bits"):
        file_at(tmp_path / "a.tif").read()


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one file for every way in which an image can be unreadable."""
    folder = tmp_path_factory.mktemp("broken")
    whole = save_image(folder / "whole.jpg", 64, 64).read_bytes()
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("no image at all")
    (folder / "header.jpg").write_bytes(whole[:20])
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    png = save_image(folder / "whole.png", 64, 64).read_bytes()
    (folder / "truncated.png").write_bytes(png[: len(png) // 2])
    (folder / "folder.jpg").mkdir()
    (folder / "link.jpg").symlink_to("nowhere.jpg")
    Image.new("1", (20000, 20000)).save(folder / "huge.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.jpg")
    return folder


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.jpg", "no such file"),
        ("link.jpg", "no such file"),
        ("empty.jpg", r"empty \(0 bytes\)"),
        ("text.jpg", "not an image"),
        ("header.jpg", "not an image|truncated"),
        ("truncated.jpg", "truncated"),
        ("truncated.png", "truncated"),
        ("folder.jpg", "a folder"),
        pytest.param("pipe.jpg", "a device or pipe", marks=pytest.mark.posix),
        ("huge.png", "too large"),
    ],
)
def test_an_unreadable_image_is_one_clear_line(broken: Path, name: str, reason: str) -> None:
    with pytest.raises(ImageError, match=reason) as caught:
        file_at(broken / name).read()
    assert str(caught.value).startswith(str(broken / name))
    assert "\n" not in str(caught.value)


def test_an_image_that_may_not_be_read_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, **_: object) -> Image.Image:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Image, "open", refuse)  # root may read anything, so chmod tells nothing
    with pytest.raises(ImageError, match="change its permissions"):
        file_at(save_image(tmp_path / "a.png")).read()


def test_a_damaged_file_raises_an_image_error_whatever_byte_is_wrong(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for suffix in (".jpg", ".png", ".tif", ".gif", ".webp", ".bmp"):
        whole = save_image(tmp_path / f"a{suffix}", 16, 16).read_bytes()
        for _ in range(60):
            damaged = np.frombuffer(whole, np.uint8).copy()
            damaged[random.integers(len(damaged), size=3)] = random.integers(256, size=3)
            path = tmp_path / f"b{suffix}"
            path.write_bytes(damaged.tobytes())
            try:
                pixels = file_at(path).read()
            except ImageError:
                continue  # any other exception fails the test
            assert pixels.shape[2] == 3


def test_the_builder_writes_the_orientation_that_it_says(tmp_path: Path) -> None:
    with Image.open(save_image(tmp_path / "a.jpg", orientation=6)) as image:
        assert image.getexif()[ORIENTATION] == 6


def test_a_page_of_postscript_is_no_image_whatever_its_name(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(an_image(64, 48)).save(path, format="EPS")
    with Image.open(path) as found:
        assert found.format == "EPS"  # Pillow would read it, by starting Ghostscript
    with pytest.raises(ImageError, match=r"photo\.jpg is not an image in a known format"):
        file_at(path).read()


@pytest.mark.parametrize("kind", ["ICNS", "ICO", "PCX", "SGI", "TGA"])
def test_formats_that_nobody_sends_are_not_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(an_image(64, 48)).save(path, format=kind)
    with pytest.raises(ImageError, match="is not an image in a known format"):
        file_at(path).read()


@pytest.mark.parametrize(
    "kind", ["JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "JPEG2000", "AVIF"]
)
def test_the_formats_of_the_manual_are_read_whatever_the_name(kind: str, tmp_path: Path) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / "photo.dat"
    Image.fromarray(an_image(64, 48)).save(path, format=kind)
    difference = np.abs(file_at(path).read().astype(int) - an_image(64, 48))
    assert np.median(difference) <= 2


@pytest.mark.parametrize(
    ("mode", "orientation"),
    [*((m, o) for m in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") for o in (1, 6)), ("CMYK", 1)],
)
def test_strips_of_an_image_are_those_of_the_whole(
    mode: str, orientation: int, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 701, 4), np.uint8)
    whole = Image.fromarray(noise)
    if mode == "P":
        whole = whole.convert("RGB").quantize(64)
        whole.info["transparency"] = 3
    elif mode == "I;16":
        whole = Image.fromarray(noise[..., 0].astype(np.uint16) * 256)
    elif mode == "CMYK":
        whole = whole.convert("RGB").convert(mode)
    else:
        whole = whole.convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    whole.save(path, exif=exif)
    if mode == "I;16":
        expected = np.repeat(noise[..., :1], 3, axis=2)
    elif "transparency" in whole.info or mode in ("LA", "RGBA"):
        white = Image.new("RGBA", whole.size, "white")
        expected = np.asarray(Image.alpha_composite(white, whole.convert("RGBA")))[..., :3]
    else:
        expected = np.asarray(whole.convert("RGB"))
    if orientation == 6:  # to be turned clockwise
        expected = np.rot90(expected, -1)
    np.testing.assert_array_equal(file_at(path).read(), expected)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_an_image_with_too_many_pixels_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("P", (12_000, 10_100)).save(path)
    with pytest.raises(ImageError, match=r"large\.png has 121,200,000 pixels, more than 120,000,0"):
        file_at(path).read()
    small = ImageSet(tmp_path, (file_at(save_image(tmp_path / "small.png")),))
    with pytest.raises(ImageError, match=r"has 48 pixels, more than 47: .* with --max-pixels"):
        next(iter(small.limited(47))).read()
    assert next(iter(small.limited(48))).read().shape == (6, 8, 3)


def test_a_bomb_costs_ten_bytes_a_pixel_and_no_more(tmp_path: Path) -> None:
    # A palette with transparency, which becomes RGBA, white and their sum on its way.
    path = tmp_path / "bomb.png"
    side = 4000
    Image.new("P", (side, side)).save(path, transparency=0)
    program = (
        "import resource, sys; from pathlib import Path; from posepipe.io.images import ImageFile\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "ImageFile(1, Path(sys.argv[1]), 'bomb').read()\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    if sys.platform != "linux":
        pytest.skip("memory is measured in other units there")
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) * 1024 < 10 * side**2


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_a_files_bytes_are_read_as_the_file_is(name, tmp_path):
    path = save_image(tmp_path / name, 20, 12, orientation=1 if name == "a.webp" else 6)
    file = ImageFile(1, path, name)
    memory = ImageFile(1, Path("nowhere", name), name, data=path.read_bytes())
    np.testing.assert_array_equal(memory.read(), file.read())
    assert memory.size_wh == file.size_wh == memory.decoded_size_wh()
    assert memory.is_turned == file.is_turned
    assert memory.check_pixels() == file.check_pixels() == 240


def test_bytes_that_are_no_image_are_named(tmp_path):
    whole = save_image(tmp_path / "a.png", 40, 30).read_bytes()
    for data, words in (
        (b"", "is empty"),
        (b"hello", "is not an image in a known format"),
        (whole[:60], "is damaged or truncated"),
    ):
        with pytest.raises(ImageError, match=f"^a.png {words}"):
            ImageFile(1, Path("a.png"), "a.png", data=data).read()


def test_too_many_pixels_are_an_error_of_their_own(tmp_path):
    path = save_image(tmp_path / "a.png", 40, 30)
    for image in (
        ImageFile(1, path, "a.png", max_pixels=1199),
        ImageFile(1, path, "a.png", max_pixels=1199, data=path.read_bytes()),
    ):
        for ask in (image.read, image.check_pixels):
            with pytest.raises(ImageTooLargeError, match="has 1,200 pixels, more than 1,199"):
                ask()
