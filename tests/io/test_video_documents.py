"""kps.json of videos: frames, times and people's numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from posepipe.core.poses import Poses
from posepipe.io.documents import KeypointsDocument, read_keypoints, write_keypoints
from posepipe.io.images import ImageFile, ImageSet


def poses(image_id: int, track_ids: list[int] | None) -> Poses:
    people = 2
    random = np.random.default_rng(image_id)
    return Poses(
        image_id,
        random.uniform(0, 1, (people, 17, 3)).round(3),
        np.array([0.5, 0.25]),
        np.array([[1.0, 2, 3, 4], [5, 6, 7, 8]]),
        np.array([0.75, 0.5]),
        track_ids=None if track_ids is None else np.array(track_ids),
    )


def video_document(folder: Path) -> KeypointsDocument:
    images = tuple(
        ImageFile(n + 1, folder / f"a.mp4#{n}", f"a.mp4#{n}", frame=n, seconds=n / 30)
        for n in (0, 7)
    )
    return KeypointsDocument(ImageSet(folder, images), (poses(1, [1, -1]), poses(8, [3, 1])))


def test_frames_times_and_numbers_come_back(tmp_path: Path) -> None:
    write_keypoints(tmp_path / "kps.json", video_document(tmp_path))
    read = read_keypoints(tmp_path / "kps.json")
    assert [(i.frame, i.seconds, i.file_name) for i in read.images] == [
        (0, 0.0, "a.mp4#0"),
        (7, 0.233333, "a.mp4#7"),
    ]
    assert [p.track_ids.tolist() for p in read.poses if p.track_ids is not None] == [
        [1, -1],
        [3, 1],
    ]
    write_keypoints(tmp_path / "again.json", read)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "kps.json").read_bytes()


def test_images_have_none_of_it(tmp_path: Path) -> None:
    image = ImageFile(1, tmp_path / "a.jpg", "a.jpg")
    write_keypoints(
        tmp_path / "kps.json",
        KeypointsDocument(ImageSet(tmp_path, (image,)), (poses(1, None),)),
    )
    keys = {key for entry in json.loads((tmp_path / "kps.json").read_text()) for key in entry}
    assert not keys & {"frame", "seconds", "track_id"}
    [read] = read_keypoints(tmp_path / "kps.json").poses
    assert read.track_ids is None


@pytest.mark.parametrize("changes", [{"frame": "frame_001"}, {"track_id": None}, {"seconds": "x"}])
def test_what_other_programs_mean_by_these_words_loses_no_pose(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    write_keypoints(tmp_path / "kps.json", video_document(tmp_path))
    entries = json.loads((tmp_path / "kps.json").read_text())
    entries[0] |= changes
    (tmp_path / "kps.json").write_text(json.dumps(entries))
    assert [len(p) for p in read_keypoints(tmp_path / "kps.json").poses] == [2, 2]


def test_coco_results_have_numbers_where_people_are_followed() -> None:
    assert [entry["track_id"] for entry in poses(1, [4, 2]).to_coco()] == [4, 2]
    assert "track_id" not in poses(1, None).to_coco()[0]
