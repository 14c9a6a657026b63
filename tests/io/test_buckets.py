"""Images by their URLs: found, read where the work is done, named without secrets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from builders import save_image
from commands import blank, content, photo, posepipe

from posepipe.errors import ImageError, MissingDependencyError
from posepipe.io.buckets import read_url, shown
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageSet
from posepipe.io.inputs import image_files
from posepipe.io.video_sources import is_video


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """A bucket in memory: a.png, b10.png, b9.png, a text file, more/c.png."""
    memory = fsspec.filesystem("memory")
    for number, name in enumerate(("b10.png", "a.png", "b9.png", "more/c.png", ".hidden.png")):
        save_image(tmp_path / name, 10 + number, 8)
        memory.pipe(f"/bucket/{name}", (tmp_path / name).read_bytes())
    memory.pipe("/bucket/notes.md", b"nothing to see")
    yield "memory://bucket"
    memory.rm("/bucket", recursive=True)


def names(images: ImageSet) -> list[str]:
    return [image.file_name for image in images]


def test_a_folder_gives_its_images_in_natural_order(bucket: str) -> None:
    images = find_images([bucket])
    assert names(images) == ["a.png", "b9.png", "b10.png"]
    assert [image.id for image in images] == [1, 2, 3]
    assert images.url.endswith("/bucket")
    assert [image.read().shape for image in images] == [(8, 11, 3), (8, 12, 3), (8, 10, 3)]
    assert [image.size_wh for image in images] == [(11, 8), (12, 8), (10, 8)]
    assert names(find_images([bucket], recursive=True)) == [*names(images), "more/c.png"]


def test_patterns_lists_and_files_are_taken_as_on_a_disk(bucket: str, tmp_path: Path) -> None:
    assert names(find_images([f"{bucket}/b*.png"])) == ["b9.png", "b10.png"]
    several = find_images([f"{bucket}/a.png", f"{bucket}/more/c.png", f"{bucket}/a.png"])
    assert names(several) == ["a.png", "more/c.png"]
    (tmp_path / "list.txt").write_text(f"# two\n{bucket}/b9.png\n{bucket}/gone.png\n")
    listed = find_images([tmp_path / "list.txt"])
    assert names(listed) == ["b9.png", "gone.png"]
    with pytest.raises(ImageError, match=r"bucket/gone.png: no such file"):
        listed.images[1].read()
    fsspec.filesystem("memory").pipe("/bucket/list.txt", b"a.png\nmore/c.png\n")
    assert names(find_images([f"{bucket}/list.txt"])) == ["a.png", "more/c.png"]


def test_what_leads_nowhere_is_listed_at_the_end(bucket: str) -> None:
    images = find_images([f"{bucket}/a.png", f"{bucket}/none", f"{bucket}/x*.png"])
    assert images.images[0].problem == ""
    with pytest.raises(ImageError, match=r"memory://bucket/none: no such file or folder"):
        images.images[1].read()
    with pytest.raises(ImageError, match=r"there are no images"):
        images.images[2].read()
    with pytest.raises(ImageError, match=r"memory://bucket/none: no such file or folder: check"):
        find_images([f"{bucket}/none"])


def test_places_are_not_mixed(bucket: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="others are files of this machine"):
        find_images([bucket, tmp_path])
    with pytest.raises(ImageError, match="several buckets"):
        find_images([f"{bucket}/a.png", "s3://other/b.png"])


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    save_image(tmp_path / "a b.png", 5, 5)
    images = find_images([tmp_path.as_uri()])
    assert names(images) == ["a b.png"]
    assert not images.url


def test_damaged_files_are_named_by_their_url(bucket: str) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/broken.png", memory.cat_file("/bucket/a.png")[:50])
    memory.pipe("/bucket/no.png", b"text")
    for name in ("broken.png", "no.png"):
        [image] = find_images([f"{bucket}/{name}"])
        with pytest.raises(ImageError, match=rf"^memory://bucket/{name} is "):
            image.read()


def test_secrets_stay_out_of_messages_and_documents() -> None:
    assert shown("https://me:secret@host/a.jpg?sig=1") == "https://host/a.jpg"
    [image] = find_images(["https://me:secret@host/photos/a.jpg?sig=1"])
    assert (image.file_name, str(image.name)) == ("a.jpg", "https://host/photos/a.jpg")
    assert image.url == "https://me:secret@host/photos/a.jpg?sig=1"


def test_what_is_missing_to_read_a_url_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", without)
    with pytest.raises(MissingDependencyError, match=r"Install s3fs .*posepipe\[buckets\]"):
        read_url("s3://bucket/a.jpg")


def test_a_server_that_fails_once_is_asked_again(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = fsspec.filesystem("memory")
    honest, failures = memory.cat_file, [OSError("503"), OSError("503")]

    def busy(path: str) -> bytes:
        if failures:
            raise failures.pop()
        return bytes(honest(path))

    monkeypatch.setattr(memory, "cat_file", busy)
    monkeypatch.setattr("posepipe.io.buckets.time.sleep", lambda seconds: None)
    assert read_url(f"{bucket}/a.png").startswith(b"\x89PNG")
    failures += [OSError("503")] * 3
    with pytest.raises(ImageError, match=r"bucket/a.png cannot be fetched \(503\)"):
        read_url(f"{bucket}/a.png")


def test_web_addresses_of_images_are_no_videos() -> None:
    images = ["https://host/a.jpg", "https://host/a.JPG?x=1", "http://host/photos/", "s3://b/a"]
    assert [is_video(address) for address in images] == [False] * 4
    videos = ["https://host/clip", "http://camera/video.mjpg", "rtsp://camera/a.jpg"]
    assert [is_video(address) for address in videos] == [True] * 3


def test_callers_in_python_name_urls_too(bucket: str) -> None:
    assert [image.read().shape for image in image_files([f"{bucket}/a.png"])] == [(8, 11, 3)]
    stream = (url for url in [f"{bucket}/a.png"])
    assert [image.read().shape for image in image_files(stream)] == [(8, 11, 3)]


def test_a_run_over_a_bucket_gives_what_one_over_the_files_gives(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    photo(tmp_path / "photos" / "a.jpg")
    blank(tmp_path / "photos" / "b.jpg")
    memory.put(str(tmp_path / "photos"), "/photos", recursive=True)
    memory.pipe("/photos/c.jpg", b"no image")
    common = ("--device", "cpu", "--precision", "fp32", "--fast")
    of_files = posepipe("run", tmp_path / "photos", "-o", tmp_path / "files.json", *common)
    done = posepipe("run", "memory://photos", "-o", tmp_path / "kps.json", *common)
    memory.rm("/photos", recursive=True)
    assert (of_files.exit_code, done.exit_code) == (0, 0)
    assert "c.jpg" in done.stderr
    assert "memory:///photos/c.jpg is not an image" in done.stderr
    [pose] = content(tmp_path / "kps.json")
    assert pose.pop("image_root") == "memory:///photos"
    [same] = content(tmp_path / "files.json")
    same.pop("image_root")
    assert pose == same
