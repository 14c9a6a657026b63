"""Images that cannot be had are told at the start and skipped; the others are done."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from builders import an_image, save_image
from PIL import Image, features

from posepipe.errors import ImageError
from posepipe.io import images as image_module
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageFile


def test_other_files_in_a_folder_are_counted_by_kind(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    for name in ("a.json", "b.json", "video.mp4", "README", ".hidden.json"):
        (tmp_path / name).touch()
    found = find_images([tmp_path])
    assert [image.file_name for image in found] == ["a.jpg"]
    (finding,) = found.findings
    assert f"{tmp_path}: files that are not images (2 .json, " in finding.line
    assert {"1 .mp4", "1 without a suffix"} <= set(re.split(r"[,()] ?", finding.line))
    assert finding.line.endswith("): 4: passed over")
    assert find_images([tmp_path / "a.jpg"]).findings == ()
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(ImageError, match=r"without images .*; files of other kinds: 2 \.json"):
        find_images([tmp_path])


@pytest.mark.parametrize(
    ("suffix", "feature"), [(".avif", "avif"), (".jp2", "jpg_2000"), (".dib", ""), (".mpo", "")]
)
def test_newer_formats_are_read(tmp_path: Path, suffix: str, feature: str) -> None:
    if feature and not features.check(feature):
        pytest.skip(f"this Pillow is built without {feature}")
    Image.fromarray(an_image(64, 48)).save(tmp_path / f"a{suffix}")
    (image,) = find_images([tmp_path])
    assert image.read().shape == (48, 64, 3)
    assert image.size_wh == (64, 48)


def test_heic_is_read_with_the_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif", reason="needs the extra heif")
    heif.from_pillow(Image.fromarray(an_image(64, 48))).save(tmp_path / "a.HEIC", quality=100)
    (image,) = find_images([tmp_path])
    pixels = image.read()
    assert pixels.shape == (48, 64, 3)
    assert abs(pixels[5, 5].astype(int) - (255, 0, 0)).max() < 40


def test_without_the_extra_heic_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_module, "_register_heif", lambda: None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    (image,) = find_images([tmp_path])
    with pytest.raises(ImageError, match=r"is a HEIC image: .* pip install 'posepipe\[heif\]'"):
        image.read()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_text_is_told_and_can_be_written_down(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jpg"))
    save_image(tmp_path / "b.jpg")
    good, bad = find_images([tmp_path])
    assert good.file_name == "b.jpg"
    assert bad.file_name == r"caf\xe9.jpg"
    with pytest.raises(ImageError, match=r"caf\\xe9\.jpg: its name is not UTF-8") as caught:
        bad.read()
    assert msgspec.json.encode([bad.file_name, str(caught.value)])


def test_links_that_lead_nowhere_or_to_themselves_are_told(tmp_path: Path) -> None:
    save_image(tmp_path / "ok.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "gone.jpg").symlink_to("nothing.jpg")
    (tmp_path / "list.txt").write_text("loop.jpg\nok.jpg\n", encoding="utf-8")

    def problems(*inputs: Path) -> dict[str, str]:
        return {image.file_name: image.problem for image in find_images(inputs)}

    nowhere = "a link that leads nowhere"
    assert problems(tmp_path) == {"ok.jpg": "", "loop.jpg": nowhere, "gone.jpg": nowhere}
    assert problems(tmp_path / "list.txt") == {"ok.jpg": "", "loop.jpg": nowhere}
    assert problems(tmp_path / "loop.jpg", tmp_path / "ok.jpg") == problems(tmp_path / "list.txt")
    with pytest.raises(ImageError, match=r"loop\.jpg: a link that leads nowhere"):
        find_images([tmp_path / "loop.jpg"])
    with pytest.raises(ImageError, match=r"loop\.jpg is a link that leads nowhere"):
        ImageFile(1, tmp_path / "loop.jpg", "").read()


@pytest.mark.posix
def test_devices_and_pipes_are_told_apart_from_links_that_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "zeros.jpg").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    save_image(tmp_path / "ok.jpg")
    problems = {image.file_name: image.problem for image in find_images([tmp_path])}
    assert problems == {
        "ok.jpg": "",
        **dict.fromkeys(["pipe.jpg", "zeros.jpg"], "a device or pipe"),
    }


def test_a_folder_that_may_not_be_searched_does_not_hide_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_image(tmp_path / "a.jpg")
    save_image(tmp_path / "sub" / "b.jpg")
    save_image(tmp_path / "lost+found" / "c.jpg")
    iterdir = Path.iterdir

    def forbidden(folder: Path):  # root may search everything
        if folder.name == "lost+found":
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", forbidden)
    found = find_images([tmp_path], recursive=True)
    assert [image.file_name for image in found] == ["a.jpg", "sub/b.jpg", "lost+found"]
    with pytest.raises(ImageError, match=r"lost\+found: a folder that may not be searched"):
        found.images[2].read()
    assert len(find_images([tmp_path])) == 1, "not searched, not told"


def test_names_too_long_for_the_system_are_items_that_fail(tmp_path: Path) -> None:
    save_image(tmp_path / "a.jpg")
    (tmp_path / "list.txt").write_text(f"a.jpg\n{'x' * 300}.jpg\n", encoding="utf-8")
    good, bad = find_images([tmp_path / "list.txt"])
    assert not good.problem
    with pytest.raises(ImageError):
        bad.read()


CODE = """
import sys
from posepipe.cli.main import main
main(["draw", "kps.json", "-o", "drawn"])
"""


@pytest.mark.parametrize("encoding", ["cp1252", "cp437"])
def test_a_console_of_another_encoding_gets_escapes(tmp_path: Path, encoding: str) -> None:
    save_image(tmp_path / "人物.png", 100, 80)
    entry = {"image_id": 1, "category_id": 1, "keypoints": [9.0] * 51, "score": 0.5}
    entries = [entry | {"file_name": "人物.png"}, entry | {"image_id": 2, "file_name": "–.png"}]
    (tmp_path / "kps.json").write_bytes(msgspec.json.encode(entries))
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        cwd=tmp_path,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"Traceback" not in done.stderr
    assert rb"drawn/\u4eba\u7269.png" in done.stdout
    assert (tmp_path / "drawn" / "人物.png").is_file()


def test_items_with_a_problem_are_never_opened(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.jpg")
    with pytest.raises(ImageError, match=r"a\.jpg: no reason"):
        ImageFile(1, path, "a.jpg", problem="no reason").read()
