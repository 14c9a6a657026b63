"""The examples in docs/file-formats.md are what the code reads and writes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from builders import save_image

from posepipe.core.boxes import Detections
from posepipe.io.documents import read_boxes, read_keypoints, write_boxes, write_keypoints
from posepipe.io.journal import Journal

PAGE = Path(__file__).parents[2] / "docs" / "file-formats.md"


@pytest.fixture
def examples(tmp_path: Path) -> dict[str, Path]:
    """The page's examples as files."""
    blocks = re.findall(r"```json\n(.*?\n)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    files = ("boxes.json", "list.json", "kps.json", "boxes.json.journal")
    paths = {name: tmp_path / name for name in files}
    for path, block in zip(paths.values(), blocks, strict=True):
        path.write_text(block, encoding="utf-8")
    return paths


def test_the_example_of_boxes_json_is_read_and_written_again(
    examples: dict[str, Path], tmp_path: Path
) -> None:
    document = read_boxes(examples["boxes.json"])
    assert [len(found) for found in document.detections] == [1, 0]
    assert len(document.skipped) == 1
    write_boxes(tmp_path / "again.json", document)
    assert (tmp_path / "again.json").read_text() == examples["boxes.json"].read_text()


def test_the_example_of_a_detection_list_is_read(examples: dict[str, Path], tmp_path: Path) -> None:
    save_image(tmp_path / "000000001490.jpg", 640, 315)
    document = read_boxes(examples["list.json"], images=tmp_path)
    assert [len(found) for found in document.detections] == [1]
    assert document.other_categories == 1


def test_the_example_of_kps_json_is_read_and_written_again(
    examples: dict[str, Path], tmp_path: Path
) -> None:
    document = read_keypoints(examples["kps.json"])
    assert len(document.poses[0]) == 1
    write_keypoints(tmp_path / "again.json", document)
    assert (tmp_path / "again.json").read_text() == examples["kps.json"].read_text()


def test_the_example_of_a_journal_is_resumed(examples: dict[str, Path], tmp_path: Path) -> None:
    header, *_ = examples["boxes.json.journal"].read_bytes().splitlines()
    fingerprint = msgspec.json.decode(header[9:])["fingerprint"]
    with Journal.resume(tmp_path / "boxes.json", fingerprint, Detections) as journal:
        first, second = journal.finished.values()
    assert first.result is not None
    assert len(first.result) == 1
    assert second.skipped
