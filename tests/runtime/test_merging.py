"""Shards of a run, merged: the bytes of one run; what is missing or does not belong is named."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import save_image
from hypothesis import given
from hypothesis import strategies as st
from stages import SomePeople, StickFigures

from posepipe.errors import DocumentError, OptionError
from posepipe.io import shards as shards_module
from posepipe.io.documents import made_by, read_boxes
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.shards import Shard, read_shards
from posepipe.runtime.merging import merge_shards
from posepipe.runtime.runs import RunOptions, run_both, run_detection, run_poses
from posepipe.scoring.rescore import rescored

IMAGES = 7


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Seven images, the fourth of which is broken."""
    for n in range(1, IMAGES + 1):
        save_image(tmp_path / f"pictures/{n}.png", 20 + n, 30)
    (tmp_path / "pictures/4.png").write_bytes(b"no image")
    return find_images([tmp_path / "pictures"])


def options(output: Path, shard: Shard | None = None, flip: bool = False) -> RunOptions:
    output = output if shard is None else shard.path(output)
    return RunOptions(output=output, made_by=made_by("run", [], {"flip": flip}), shard=shard)


def do(kind: str, images: ImageSet, chosen: RunOptions, boxes: Path) -> Path:
    """One of the three runs; gives its output."""
    if kind == "detect":
        run_detection(SomePeople(), images, chosen)
    elif kind == "run":
        run_both(SomePeople(), StickFigures(), images, chosen, finish=rescored)
    else:
        document = read_boxes(boxes)
        run_poses(StickFigures(), document, chosen, finish=rescored, boxes_digest="abc")
    return chosen.output


def shard_files(images: ImageSet, output: Path, count: int) -> list[Path]:
    shards = (Shard(number, count) for number in range(1, count + 1))
    return [do("run", images, options(output, shard), output) for shard in shards]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
@pytest.mark.parametrize("kind", ["detect", "pose", "run"])
def test_all_shards_make_the_bytes_of_one_run(
    kind: str, count: int, images: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boxes = do("detect", images, options(tmp_path / "boxes.json"), tmp_path)
    whole = do(kind, images, options(tmp_path / "whole.json"), boxes)
    monkeypatch.setattr(shards_module, "_LINES_AT_ONCE", 4)  # so that files are opened often
    shards = [Shard(number, count) for number in range(1, count + 1)]
    parts = [do(kind, images, options(tmp_path / "kps.json", s), boxes) for s in shards]
    assert [part.name for part in parts] == [
        f"kps.json.{n}-of-{count}" for n in range(1, count + 1)
    ]
    counted: list[int] = []
    merged = merge_shards(
        read_shards(parts[::-1]), tmp_path / "merged.json", progress=counted.append
    )
    assert (tmp_path / "merged.json").read_bytes() == whole.read_bytes()
    assert [skip.file_name for skip in merged.skipped] == ([] if kind == "pose" else ["4.png"])
    assert (merged.images, merged.people) == (6, 6)
    assert (len(counted), sum(counted)) == (6 if kind == "pose" else 7, 6)


def test_an_interrupted_shard_goes_on_and_no_other_takes_it_up(
    images: ImageSet, tmp_path: Path
) -> None:
    chosen = options(tmp_path / "boxes.json", Shard(1, 2))
    with pytest.raises(KeyboardInterrupt):
        run_detection(SomePeople(interrupted_after=2), images, chosen)
    (other,) = [do("detect", images, options(tmp_path / "boxes.json", Shard(2, 2)), tmp_path)]
    with pytest.raises(DocumentError, match=r"missing: 1; unfinished, go on with --resume: 1$"):
        read_shards([other])
    journal = chosen.output.with_name(f"{chosen.output.name}.journal")
    for wrong in (Shard(1, 3), None):
        resumed = dataclasses.replace(chosen, shard=wrong, resume=True)
        with pytest.raises(DocumentError, match="shard was 1/2, is "):
            run_detection(SomePeople(), images, resumed)
    assert journal.is_file()
    run_detection(SomePeople(), images, dataclasses.replace(chosen, resume=True))
    merge_shards(read_shards([chosen.output, other]), tmp_path / "merged.json")
    whole = do("detect", images, options(tmp_path / "whole.json"), tmp_path)
    assert (tmp_path / "merged.json").read_bytes() == whole.read_bytes()


def test_shards_that_are_missing_are_named(images: ImageSet, tmp_path: Path) -> None:
    parts = shard_files(images, tmp_path / "kps.json", 14)
    with pytest.raises(DocumentError, match=r"of 14 shards these are missing: 2, 14$"):
        read_shards([part for part in parts if not part.name.endswith((".2-of-14", "14-of-14"))])
    with pytest.raises(DocumentError, match=r"missing: 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 3 more$"):
        read_shards(parts[:1])


def test_a_shard_given_twice_is_named(images: ImageSet, tmp_path: Path) -> None:
    first, second = shard_files(images, tmp_path / "kps.json", 2)
    copy = tmp_path / "copy"
    copy.write_bytes(second.read_bytes())
    both = f"shard 2 of 2 is there twice: {re.escape(f'{second} and {copy}')}"
    with pytest.raises(DocumentError, match=both):
        read_shards([first, second, copy])


def test_shards_of_different_runs_are_not_merged(images: ImageSet, tmp_path: Path) -> None:
    first, second = shard_files(images, tmp_path / "kps.json", 2)
    others = [
        (
            do("run", images, options(tmp_path / "a", Shard(2, 2), flip=True), first),
            "settings.flip",
        ),
        (
            do("detect", images, options(tmp_path / "b", Shard(2, 2)), first),
            "kind was poses, is box",
        ),
        (shard_files(images, tmp_path / "c", 3)[1], "number of shards was 2, is 3"),
        (
            do("run", Shard(1, 2).part(images), options(tmp_path / "d", Shard(2, 2)), first),
            "images was 7, is 4; inputs was ",
        ),
    ]
    for other, difference in others:
        with pytest.raises(DocumentError, match=f"are of different runs .*{difference}"):
            read_shards([first, other])
    assert read_shards([second, first]).header.number == 1


def spoiled(path: Path, change: Sequence[bytes], at: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:at], *change, *lines[at + 1 :]]))


@pytest.mark.parametrize("change", [[], [b"deadbeef {}\n"], [b"\n"]], ids=["cut", "other", "empty"])
def test_a_damaged_shard_is_named_and_an_earlier_output_stays(
    change: list[bytes], images: ImageSet, tmp_path: Path
) -> None:
    first, second = shard_files(images, tmp_path / "kps.json", 2)
    spoiled(second, change, at=3)
    output = tmp_path / "merged.json"
    output.write_text("earlier", encoding="utf-8")
    where = f"{re.escape(str(second))} is damaged or ends too soon, at image 6"
    with pytest.raises(DocumentError, match=where):
        merge_shards(read_shards([first, second]), output)
    assert output.read_text(encoding="utf-8") == "earlier"


def test_what_is_no_shard_is_named(images: ImageSet, tmp_path: Path) -> None:
    output = do("run", images, options(tmp_path / "kps.json"), tmp_path)
    for path, words in (
        (output, "is no shard of this version"),
        (tmp_path / "nothing", "no such file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(DocumentError, match=words):
            read_shards([path])
    with pytest.raises(DocumentError, match="no shards were named"):
        read_shards([])


@given(count=st.integers(0, 40), of=st.integers(1, 50))
def test_every_image_is_in_exactly_one_shard_and_all_are_as_large(count: int, of: int) -> None:
    images = ImageSet(Path(), tuple(ImageFile(n, Path(f"{n}"), f"{n}") for n in range(count)))
    parts = [Shard(number, of).part(images).images for number in range(1, of + 1)]
    assert sorted(image.id for part in parts for image in part) == list(range(count))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(
    "text", ["0/3", "4/3", "1/0", "a/3", "1", "1/3/5", "-1/3", "1/1000000", ""]
)
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="write k/N"):
        Shard.parse(text)
