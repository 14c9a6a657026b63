"""JPEGs decoded without Pillow: the same pixels and the same errors as with it."""

from __future__ import annotations

import os
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import simplejpeg
from builders import ORIENTATION
from PIL import Image

from posepipe.errors import ImageError, ImageTooLargeError
from posepipe.io import images, jpeg
from posepipe.io.images import ImageFile

IMAGES = Path(__file__).parents[2] / "examples"
SHARED = Path(__file__).parents[3] / "shared" / "data"


def jpeg_bytes(
    width: int = 45, height: int = 38, mode: str = "RGB", kind: str = "JPEG", **options: Any
) -> bytes:
    """A file of noise on a gradient; `options` are those of Pillow's `save`."""
    numbers = np.random.default_rng(0).integers(90, size=(height, width, 3))
    numbers += np.arange(width)[None, :, None] * 160 // width
    file = BytesIO()
    Image.fromarray(numbers.astype(np.uint8)).convert(mode).save(file, kind, **options)
    return file.getvalue()


def exif(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[ORIENTATION] = orientation
    return data


def outcome(data: bytes, **options: Any) -> npt.NDArray[np.uint8] | str:
    """The pixels of a file, or the error."""
    try:
        return ImageFile(1, Path("a.jpg"), "a.jpg", data=data, **options).read()
    except ImageError as error:
        return f"{type(error).__name__}: {error}"


def pillows(data: bytes, monkeypatch: pytest.MonkeyPatch) -> npt.NDArray[np.uint8] | str:
    """The same, by Pillow alone."""
    with monkeypatch.context() as context:
        context.setattr(images, "jpeg_pixels", lambda image: None)
        context.setattr(images, "plain_pixels", lambda source, most: None)
        return outcome(data)


def is_plain(source: bytes | Path, most_pixels: int = 10**6) -> bool:
    return jpeg.plain_pixels(source, most_pixels) is not None


def is_decoded(data: bytes) -> bool:
    with Image.open(BytesIO(data)) as image:
        return jpeg.jpeg_pixels(image) is not None


USUAL: dict[str, dict[str, Any]] = {
    "4:4:4": {"subsampling": 0},
    "4:2:2": {"subsampling": 1},
    "4:2:0": {"subsampling": 2},
    "grey": {"mode": "L"},
    "progressive": {"progressive": True},
    "progressive grey": {"progressive": True, "mode": "L"},
    "best quality": {"quality": 100, "subsampling": 0},
    "worst quality": {"quality": 1},
    "one pixel": {"width": 1, "height": 1},
    "one column": {"width": 1, "height": 33},
    "odd": {"width": 17, "height": 9},
    "restart markers": {"restart_marker_blocks": 2},
    "colour profile": {"icc_profile": bytes(range(200))},
    "comment": {"comment": b"words " * 1000},
    "RGB inside": {"keep_rgb": True},
    "several in one": {
        "kind": "MPO",
        "save_all": True,
        "append_images": [Image.new("RGB", (9, 9))],
    },
}


@pytest.mark.parametrize("kind", USUAL)
def test_common_jpegs_are_decoded_to_pillows_pixels(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg_bytes(**USUAL[kind])
    assert is_decoded(data)
    assert is_plain(data) == (kind not in ("RGB inside", "several in one"))
    pixels = outcome(data)
    assert isinstance(pixels, np.ndarray)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    np.testing.assert_array_equal(pixels, pillows(data, monkeypatch))


@pytest.mark.parametrize("orientation", range(10))
def test_jpegs_are_turned_as_pillow_turns_them(
    orientation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = jpeg_bytes(exif=exif(orientation))
    np.testing.assert_array_equal(outcome(data), pillows(data, monkeypatch))


def test_plain_files_are_read_without_pillow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        name: tmp_path / f"{name}.jpg" for name in ("plain", "with_exif", "png", "pipe", "none")
    }
    files["plain"].write_bytes(jpeg_bytes())
    files["with_exif"].write_bytes(jpeg_bytes(exif=exif(6)))
    Image.new("RGB", (9, 9)).save(files["png"], "PNG")
    if hasattr(os, "mkfifo"):
        os.mkfifo(files["pipe"])
    assert {name: is_plain(file) for name, file in files.items()} == {
        name: name == "plain" for name in files
    }
    assert not is_plain(files["plain"], 45 * 38 - 1)
    pixels = ImageFile(1, files["plain"], "").read()
    np.testing.assert_array_equal(pixels, pillows(jpeg_bytes(), monkeypatch))
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("Pillow"))
    np.testing.assert_array_equal(ImageFile(1, files["plain"], "").read(), pixels)


def test_an_image_that_memory_has_no_room_for_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise MemoryError

    (tmp_path / "a.jpg").write_bytes(jpeg_bytes())
    monkeypatch.setattr(np, "empty", full)
    with pytest.raises(ImageTooLargeError, match="too large to be read safely"):
        ImageFile(1, tmp_path / "a.jpg", "").read()


def test_headers_that_are_damaged_or_unusual_are_left_to_pillow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = jpeg_bytes(icc_profile=bytes(range(200)), comment=b"words")
    unusual = [jpeg_bytes(exif=exif(1)), jpeg_bytes(mode="CMYK"), jpeg_bytes(keep_rgb=True)]
    unusual += [plain[:2] + segment + plain[2:] for segment in (b"\xff\xe1\0\4ab", b"\xff\xee\0\2")]
    assert not any(map(is_plain, unusual))
    header, random = plain.index(b"\xff\xda") + 14, np.random.default_rng(2)
    damaged = [
        plain[:at] + bytes([byte]) + plain[at + 1 :] for at in range(header) for byte in (0, 255)
    ]
    for _ in range(400):
        changed = bytearray(plain)
        for at in random.integers(2, header, 3):
            changed[at] = int(random.integers(256))
        damaged.append(bytes(changed))
    for data in (*unusual, *damaged):
        ours, theirs = outcome(data), pillows(data, monkeypatch)
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours, theirs)


def test_rare_kinds_are_left_to_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    vertical = simplejpeg.encode_jpeg(np.zeros((8, 8, 3), np.uint8), colorsubsampling="440")
    for data in (jpeg_bytes(mode="CMYK"), vertical):
        assert not is_decoded(data)
        np.testing.assert_array_equal(outcome(data), pillows(data, monkeypatch))
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    assert not is_decoded(file.getvalue())


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 1}])
def test_damaged_files_give_what_pillow_gives(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = jpeg_bytes(**options)
    random = np.random.default_rng(1)
    damaged = [whole + b"garbage" * 50, whole + whole, whole[:-1], whole[:-2], whole[2:]]
    damaged += [whole[:end] for end in range(0, len(whole), 97)]
    damaged += [whole[:end] + b"\xff\xd9" for end in range(200, len(whole), 197)]
    damaged += [whole[:start] + whole[start + 40 :] for start in range(0, len(whole), 151)]
    for _ in range(60):
        at, byte = int(random.integers(len(whole))), int(random.integers(256))
        damaged.append(whole[:at] + bytes([byte]) + whole[at + 1 :])
    seen = {"error": 0, "pixels": 0}
    for data in damaged:
        ours, theirs = outcome(data), pillows(data, monkeypatch)
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours, theirs)
        seen["error" if isinstance(theirs, str) else "pixels"] += 1
    assert min(seen.values()) > 20
    assert capfd.readouterr() == ("", "")


def test_what_is_too_large_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg_bytes(40, 30)
    monkeypatch.setattr(images, "jpeg_pixels", lambda image: pytest.fail("decoded"))
    assert "has 1,200 pixels, more than 1,199" in str(outcome(data, max_pixels=1199))
    bomb = data.replace(b"\x00\x1e\x00\x28\x03", b"\xff\xff\xff\xff\x03")  # its size, in the header
    assert bomb != data
    assert "TooLarge" in str(outcome(bomb))


def test_a_file_far_longer_than_its_image_is_not_read_whole() -> None:
    data = jpeg_bytes()
    assert is_decoded(data + bytes(2**20))
    assert not is_decoded(data + bytes(2**21))
    assert isinstance(outcome(data + bytes(2**21)), np.ndarray)


def test_a_file_that_grows_after_its_header_was_checked_gets_no_more_memory() -> None:
    small, large = jpeg_bytes(20, 10), jpeg_bytes(200, 100)
    with Image.open(BytesIO(small)) as image:
        image.fp = BytesIO(large)
        assert jpeg.jpeg_pixels(image) is None


def test_a_decoder_of_other_pixels_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    real = simplejpeg.decode_jpeg

    def decode(data: bytes, colorspace: str, **options: Any) -> npt.NDArray[np.uint8]:
        return np.asarray(real(data, colorspace, fastupsample=True, **options))

    monkeypatch.setattr(simplejpeg, "decode_jpeg", decode)
    jpeg._decoder.cache_clear()
    try:
        assert not is_decoded(jpeg_bytes())
    finally:
        jpeg._decoder.cache_clear()


def test_without_the_decoder_pillow_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    data = jpeg_bytes()
    expected = outcome(data)
    monkeypatch.setitem(sys.modules, "simplejpeg", None)
    jpeg._decoder.cache_clear()
    try:
        assert not is_decoded(data)
        np.testing.assert_array_equal(outcome(data), expected)
    finally:
        jpeg._decoder.cache_clear()


def test_real_images_are_decoded_to_pillows_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [*IMAGES.rglob("*.jpg"), *(SHARED / "coco" / "val").glob("*.jpg")]
    assert paths
    for path in paths:
        data = path.read_bytes()
        assert is_decoded(data), path
        np.testing.assert_array_equal(outcome(data), pillows(data, monkeypatch), err_msg=str(path))
