from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import poses, save_image
from hypothesis import given, settings
from hypothesis import strategies as st

from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.errors import DocumentError
from posepipe.io.documents import BoxesDocument, Skipped, write_boxes
from posepipe.io.find_images import find_images
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.journal import Entry, Journal, inputs_digest

PRINT: dict[str, Any] = {"models": ["abc"], "settings": {"nms": 0.5, "flip": True}}


@dataclass(frozen=True, eq=False)
class Found:
    """What a detection run notes down for an image."""

    size_wh: tuple[int, int]
    detections: Detections


def awkward_detections(image_id: int) -> Detections:
    """Boxes whose numbers have no short decimal form."""
    random = np.random.default_rng(image_id)
    low = random.random((image_id % 4, 2), np.float32) * 50
    boxes = np.concatenate([low, low + 1 + random.random(low.shape, np.float32) * 40], axis=1)
    return Detections(image_id, boxes, random.random(len(boxes), np.float32))


def entries(count: int) -> Iterator[Entry[Found]]:
    for image_id in range(1, count + 1):
        if image_id == 2:
            yield Entry(image_id, skipped="no such file")
        else:
            yield Entry(image_id, Found((100, 90), awkward_detections(image_id)))


def journal_with(output: Path, count: int) -> Path:
    with Journal[Found].start(output, PRINT) as journal:
        for entry in entries(count):
            journal.append(entry)
        return journal.path


def test_a_journal_lies_beside_its_output_until_the_run_is_finished(tmp_path: Path) -> None:
    with Journal[Found].start(tmp_path / "boxes.json", PRINT) as journal:
        journal.append(next(entries(1)))
        assert journal.path == tmp_path / "boxes.json.journal"
        assert journal.path.exists()
        journal.finish()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_ended_before_anything_was_finished_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Journal[Found].start(tmp_path / "boxes.json", PRINT):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_resuming_without_a_journal_begins_one(tmp_path: Path) -> None:
    with Journal.resume(tmp_path / "boxes.json", PRINT, Found) as journal:
        assert journal.finished == {}
        journal.append(next(entries(1)))
    with Journal.resume(tmp_path / "boxes.json", PRINT, Found) as journal:
        assert list(journal.finished) == [1]


def test_what_was_finished_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    journal_with(tmp_path / "boxes.json", 9)
    with Journal.resume(tmp_path / "boxes.json", PRINT, Found) as journal:
        assert list(journal.finished) == list(range(1, 10))
        for expected in entries(9):
            entry = journal.finished[expected.image_id]
            assert entry.skipped == expected.skipped
            if expected.result is None:
                assert entry.result is None
                continue
            assert entry.result is not None
            assert entry.result.size_wh == (100, 90)
            for name in ("boxes_xyxy", "scores"):
                array = getattr(entry.result.detections, name)
                wanted = getattr(expected.result.detections, name)
                assert array.dtype == wanted.dtype
                assert array.shape == wanted.shape
                assert array.tobytes() == wanted.tobytes()


def test_poses_come_back_to_the_last_bit(tmp_path: Path) -> None:
    written = [poses(1, 3), poses(2, 0)]
    with Journal[Poses].start(tmp_path / "kps.json", PRINT) as journal:
        for result in written:
            journal.append(Entry(result.image_id, result))
    with Journal.resume(tmp_path / "kps.json", PRINT, Poses) as journal:
        for result in written:
            read = journal.finished[result.image_id].result
            assert read is not None
            for name in ("keypoints", "scores", "boxes_xyxy", "box_scores"):
                assert getattr(read, name).shape == getattr(result, name).shape
                assert getattr(read, name).tobytes() == getattr(result, name).tobytes()


def run(folder: Path, images: ImageSet, journal: Journal[Found], stop_before: int | None) -> None:
    """What a detection run does, or as much of it as it gets to."""
    finished = dict(journal.finished)
    for entry in entries(len(images)):
        if entry.image_id in finished:
            continue
        if entry.image_id == stop_before:
            raise KeyboardInterrupt
        journal.append(entry)
        finished[entry.image_id] = entry
    write_boxes(folder / "boxes.json", document_of(images, list(finished.values())))
    journal.finish()


def document_of(images: ImageSet, finished: Sequence[Entry[Found]]) -> BoxesDocument:
    names = {image.id: image.file_name for image in images}
    results = {entry.image_id: entry.result for entry in finished if entry.result is not None}
    kept = ImageSet(images.root, tuple(image for image in images if image.id in results))
    return BoxesDocument(
        images=kept,
        detections=tuple(
            replace(results[image.id].detections, size_wh=results[image.id].size_wh)
            for image in kept
        ),
        skipped=tuple(Skipped(names[e.image_id], e.skipped) for e in finished if e.skipped),
    )


def test_a_resumed_run_writes_the_bytes_of_an_uninterrupted_one(tmp_path: Path) -> None:
    images = ImageSet(tmp_path, tuple(ImageFile(n, tmp_path / f"{n}", f"{n}") for n in range(1, 9)))
    whole = tmp_path / "whole"
    whole.mkdir()
    with Journal[Found].start(whole / "boxes.json", PRINT) as journal:
        run(whole, images, journal, None)
    for stop_before, lost_bytes in [(2, 0), (3, 5), (5, 0), (5, 1), (8, 200), (8, 10_000)]:
        parts = tmp_path / f"parts-{stop_before}-{lost_bytes}"
        parts.mkdir()
        with (
            pytest.raises(KeyboardInterrupt),
            Journal[Found].start(parts / "boxes.json", PRINT) as journal,
        ):
            run(parts, images, journal, stop_before)
        size = journal.path.stat().st_size
        os.truncate(journal.path, max(0, size - lost_bytes))  # as when the power failed
        with Journal.resume(parts / "boxes.json", PRINT, Found) as journal:
            run(parts, images, journal, None)
        assert (parts / "boxes.json").read_bytes() == (whole / "boxes.json").read_bytes()
        assert [path.name for path in parts.iterdir()] == ["boxes.json"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_crash_at_any_byte_loses_the_torn_line_at_most(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    output = tmp_path_factory.mktemp("journal") / "boxes.json"
    path = journal_with(output, 5)
    whole = path.read_bytes()
    kept = data.draw(st.integers(0, len(whole)), label="bytes that reached the disk")
    path.write_bytes(whole[:kept])
    with Journal.resume(output, PRINT, Found) as journal:
        complete = max(0, whole[:kept].count(b"\n") - 1)  # without the header
        assert list(journal.finished) == list(range(1, complete + 1))
        for entry in entries(5):
            if entry.image_id not in journal.finished:
                journal.append(entry)
    assert path.read_bytes() == whole


def test_a_new_run_does_not_overwrite_what_an_interrupted_one_left(tmp_path: Path) -> None:
    path = journal_with(tmp_path / "boxes.json", 3)
    before = path.read_bytes()
    with pytest.raises(DocumentError, match=r"boxes.json.journal .*--resume, or delete it"):
        Journal[Found].start(tmp_path / "boxes.json", PRINT)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"models": ["abd"]}, r"models was \['abc'\], is \['abd'\]"),
        ({"settings": {"nms": 0.6, "flip": True}}, r"\(settings.nms was 0.5, is 0.6\)"),
        ({"settings": {"nms": 0.5}}, r"settings.flip was True, is absent"),
        ({"inputs": "x" * 64}, r"inputs was absent, is x{39}…"),
    ],
)
def test_a_journal_of_another_run_says_what_differs(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = journal_with(tmp_path / "boxes.json", 3)
    before = path.read_bytes()
    with pytest.raises(DocumentError, match=reason) as caught:
        Journal.resume(tmp_path / "boxes.json", PRINT | changes, Found)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_fingerprint_is_the_same_after_a_round_through_json(tmp_path: Path) -> None:
    journal_with(tmp_path / "boxes.json", 1)
    same = {"settings": {"flip": True, "nms": 0.5}, "models": ("abc",)}
    with Journal.resume(tmp_path / "boxes.json", same, Found) as journal:
        assert len(journal.finished) == 1


@pytest.mark.parametrize("place", range(2, 6))
def test_a_damaged_line_is_dropped_and_the_others_are_kept(place: int, tmp_path: Path) -> None:
    path = journal_with(tmp_path / "boxes.json", 5)
    lines = path.read_bytes().split(b"\n")
    lines[place] = lines[place][:-3]
    path.write_bytes(b"\n".join(lines))
    with Journal.resume(tmp_path / "boxes.json", PRINT, Found) as journal:
        assert journal.damaged == 1
        assert list(journal.finished) == [n for n in range(1, 6) if n != place]


def test_a_flipped_bit_is_never_taken_for_a_result(tmp_path: Path) -> None:
    output = tmp_path / "boxes.json"
    path = journal_with(output, 4)
    whole = path.read_bytes()
    with Journal.resume(output, PRINT, Found) as journal:
        sound = {number: repr(entry) for number, entry in journal.finished.items()}
    random = np.random.default_rng(0)
    refused = 0
    for place in random.integers(8 * len(whole), size=300).tolist():
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            with Journal.resume(output, PRINT, Found) as journal:
                kept = {number: repr(entry) for number, entry in journal.finished.items()}
                assert len(kept) >= 2  # what was a line end may be none
                assert kept.items() <= sound.items()
        except DocumentError as error:
            assert "damaged in its first line" in str(error)  # noqa: PT017
            refused += 1
    assert 0 < refused < 150


def test_a_line_that_is_not_of_this_program_is_dropped(tmp_path: Path) -> None:
    output = tmp_path / "boxes.json"
    path = journal_with(output, 3)
    texts = [
        b"[" * 100_000,
        b'{"image_id":7,"result":{"size_wh":[1,2],"detections":{"image_id":8}}}',
        b'{"image_id":7,"result":{"size_wh":[1,2],"detections":{"image_id":7,"boxes_xyxy":'
        b'{"shape":[9,4],"data":[1]},"scores":{"shape":[9],"data":[1]}}}}',
        b'{"image_id":"\xff"}',
        b"",
    ]
    with path.open("ab") as file:
        file.writelines(b"%08x %b\n" % (zlib.crc32(text), text) for text in texts)
    with Journal.resume(output, PRINT, Found) as journal:
        assert (journal.damaged, list(journal.finished)) == (len(texts), [1, 2, 3])


def test_what_a_killed_process_left_of_the_output_is_removed(tmp_path: Path) -> None:
    output, other = tmp_path / "boxes.json", tmp_path / ".other.json.77.tmp"
    leftovers = [tmp_path / f".boxes.json.{process}.tmp" for process in (1, 4711)]
    for path in (*leftovers, other):
        path.write_bytes(b"a part")
    journal_with(output, 2)
    assert not any(path.exists() for path in leftovers)
    leftovers[0].write_bytes(b"a part")
    with Journal.resume(output, PRINT, Found) as journal:
        assert not leftovers[0].exists()
        journal.finish()
    assert list(tmp_path.iterdir()) == [other]


def test_a_journal_of_a_later_format_is_not_touched(tmp_path: Path) -> None:
    path = journal_with(tmp_path / "boxes.json", 1)
    header, *rest = path.read_bytes().split(b"\n")
    later = header[9:].replace(b'"posepipe_journal":2', b'"posepipe_journal":3')
    path.write_bytes(b"\n".join([b"%08x %b" % (zlib.crc32(later), later), *rest]))
    with pytest.raises(DocumentError, match="has format 3, this is 2"):
        Journal.resume(tmp_path / "boxes.json", PRINT, Found)


@pytest.mark.parametrize("resume", [False, True])
def test_two_runs_cannot_write_the_same_output(tmp_path: Path, resume: bool) -> None:
    output = tmp_path / "boxes.json"
    program = (
        "import sys; from posepipe.io.journal import Journal\n"
        f"journal = Journal.start(sys.argv[1], {PRINT!r})\n"
        "print('started', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(output)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"started\n"
        begin = partial(Journal.resume, kind=Found) if resume else Journal.start
        with pytest.raises(DocumentError, match=r"another run is writing .*boxes.json: wait for"):
            begin(output, PRINT)
        other.kill()
    with Journal.resume(output, PRINT, Found) as journal:  # the lock went with the process
        assert journal.finished == {}


def test_a_full_disk_is_one_line_and_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal[Found].start(tmp_path / "boxes.json", PRINT)
    first, second, third = (entry for entry in entries(4) if entry.image_id != 2)
    journal.append(first)
    whole = journal.path.read_bytes()

    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        patch.setattr("posepipe.io.journal.SECONDS_TO_DISK", 0)
        with pytest.raises(DocumentError, match=r"boxes.json.journal cannot be written: No space"):
            journal.append(second)
    assert journal.path.read_bytes() == whole
    journal.append(third)
    journal.close()
    with Journal.resume(tmp_path / "boxes.json", PRINT, Found) as resumed:
        assert list(resumed.finished) == [first.image_id, third.image_id]


def test_an_output_that_cannot_be_written_is_found_out_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="there is no folder"):
        Journal[Found].start(tmp_path / "gone" / "boxes.json", PRINT)
    with pytest.raises(DocumentError, match="is a folder"):
        Journal[Found].start(tmp_path, PRINT)
    loop = tmp_path / "loop.json"
    loop.symlink_to("loop.json")
    with pytest.raises(DocumentError, match=r"loop\.json cannot be written: .*loop"):
        Journal[Found].start(loop, PRINT)
    away = tmp_path / "away.json"
    away.symlink_to("gone/boxes.json")
    with pytest.raises(DocumentError, match=r"away\.json cannot be written: No such file"):
        Journal[Found].start(away, PRINT)
    with pytest.raises(DocumentError, match=r"cannot be written: File name too long"):
        Journal[Found].start(tmp_path / ("x" * 300), PRINT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["away.json", "loop.json"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS])
def test_a_folder_that_takes_no_files_is_found_out_at_the_start(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:  # root may write anywhere, so chmod tells nothing
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(DocumentError, match=f"cannot be written: {os.strerror(number)}"):
        Journal[Found].start(tmp_path / "boxes.json", PRINT)
    assert list(tmp_path.iterdir()) == []


def test_a_digest_tells_when_the_inputs_are_others(tmp_path: Path) -> None:
    save_image(tmp_path / "1.png")
    save_image(tmp_path / "2.png")
    both = inputs_digest(find_images([tmp_path]))
    assert inputs_digest(find_images([tmp_path])) == both
    assert inputs_digest(find_images([tmp_path / "1.png"])) != both
    save_image(tmp_path / "2.png", 20, 20)  # mended: a run goes on
    assert inputs_digest(find_images([tmp_path])) == both
    (tmp_path / "2.png").unlink()
    assert len(inputs_digest(find_images([tmp_path / "1.png", tmp_path / "2.png"]))) == 64
