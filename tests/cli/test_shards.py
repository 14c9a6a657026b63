from __future__ import annotations

from pathlib import Path

import pytest
from commands import blank, error_of, lines, photo, posepipe, truncated


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "pictures"
    photo(folder / "a.jpg")
    blank(folder / "b.jpg")
    photo(folder / "c.jpg", source="grace_hopper.jpg")
    return folder


def test_shards_are_done_and_merged(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = (images, "--device", "cpu", "--precision", "fp32")
    whole, output = tmp_path / "whole.json", tmp_path / "kps.json"
    assert posepipe("run", *common, "-o", whole).exit_code == 0
    assert posepipe("run", *common, "-o", output, "--shard", "1/2").exit_code == 0
    monkeypatch.setenv("POSEPIPE_RUN_SHARD", "2/2")  # as a batch system would have it
    result = posepipe("run", *common, "-o", output)
    assert (result.exit_code, lines(result)) == (0, ["posepipe: no people found in 1 image"])
    assert not output.exists()
    shards = [tmp_path / f"kps.json.{number}-of-2" for number in (2, 1)]
    result = posepipe("merge", *shards, "-o", output, "-v")
    assert (result.exit_code, lines(result)) == (0, [f"3 images, 2 people: {output}"])
    assert output.read_bytes() == whole.read_bytes()


def test_a_missing_shard_ends_the_merge(images: Path, tmp_path: Path) -> None:
    output = tmp_path / "boxes.json"
    assert posepipe("detect", images, "-o", output, "--shard", "2/3").exit_code == 0
    result = posepipe("merge", tmp_path / "boxes.json.2-of-3", "-o", output)
    assert error_of(result) == "of 3 shards these are missing: 1, 3"
    assert not output.exists()
    result = posepipe("merge", tmp_path / "boxes.json.2-of-3", "-o", tmp_path / "boxes.json.2-of-3")
    assert "is an input" in error_of(result)


def test_what_most_shards_could_not_read_fails_the_merge(tmp_path: Path) -> None:
    for name in "ab":
        truncated(tmp_path / "pictures" / f"{name}.jpg")
    blank(tmp_path / "pictures" / "c.jpg")
    output = tmp_path / "boxes.json"
    for number in (1, 2, 3):
        posepipe("detect", tmp_path / "pictures", "-o", output, "--shard", f"{number}/3")
    result = posepipe("merge", *tmp_path.glob("boxes.json.*"), "-o", output)
    assert result.exit_code == 1
    assert "2 inputs skipped" in result.stderr
    assert "2 of 3 images were skipped" in lines(result)[-1]
    assert output.exists()


@pytest.mark.parametrize("shard", ["0/2", "3/2", "two"])
def test_no_such_shard(shard: str, images: Path, tmp_path: Path) -> None:
    result = posepipe("detect", images, "-o", tmp_path / "boxes.json", "--shard", shard)
    assert "write k/N" in error_of(result)


def test_a_video_has_no_shards(tmp_path: Path, images: Path) -> None:
    for video in ([tmp_path / "video.mp4"], [images, "--as-video"]):
        result = posepipe("run", *video, "-o", tmp_path / "kps.json", "--shard", "1/2")
        assert "--shard is for images" in error_of(result)
