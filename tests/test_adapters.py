"""Results for other libraries, checked with the libraries themselves."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from builders import DOG, K, an_image, detections, poses

from posepipe import adapters
from posepipe.errors import MissingDependencyError
from posepipe.io.images import ImageFile


@pytest.mark.parametrize("people", [0, 1, 3])
def test_key_points_for_supervision_keep_all_numbers(people: int) -> None:
    sv = pytest.importorskip("supervision")
    given = poses(people=people)
    result = adapters.to_sv_key_points(given)
    assert isinstance(result, sv.KeyPoints)
    assert len(result) == people
    assert result.is_empty() == (people == 0)
    np.testing.assert_allclose(result.xy, given.keypoints[..., :2], rtol=1e-6)
    np.testing.assert_allclose(result.keypoint_confidence, given.keypoints[..., 2], rtol=1e-6)
    np.testing.assert_allclose(result.detection_confidence, given.scores, rtol=1e-6)


@pytest.mark.parametrize("people", [0, 1, 3])
def test_boxes_for_supervision_keep_all_numbers(people: int) -> None:
    sv = pytest.importorskip("supervision")
    for given in (poses(people=people), detections(boxes_xyxy=poses(people=people).boxes_xyxy)):
        result = adapters.to_sv_detections(given)
        assert isinstance(result, sv.Detections)
        assert len(result) == people
        np.testing.assert_allclose(result.xyxy, given.boxes_xyxy, rtol=1e-6)
        np.testing.assert_allclose(result.confidence, given.scores, rtol=1e-6)
        assert result.class_id.tolist() == [0] * people
        assert result["class_name"].tolist() == ["person"] * people


def test_supervision_draws_what_it_is_given() -> None:
    sv = pytest.importorskip("supervision")
    plain = an_image(120, 90)
    drawn = sv.VertexAnnotator(color=sv.Color.WHITE, radius=2).annotate(
        plain.copy(), adapters.to_sv_key_points(poses())
    )
    boxed = sv.BoxAnnotator().annotate(plain.copy(), adapters.to_sv_detections(poses()))
    assert (drawn != plain).any()
    assert (boxed != plain).any()
    x, y = np.round(poses().keypoints[0, 0, :2]).astype(int)
    assert drawn[y, x].tolist() == [255, 255, 255]


def test_a_table_has_a_row_for_every_keypoint() -> None:
    pandas = pytest.importorskip("pandas")
    given = poses(image_id=7, people=2)
    table = adapters.to_pandas(given)
    assert isinstance(table, pandas.DataFrame)
    assert len(table) == 2 * K
    assert "file_name" not in table
    second = table[(table.person == 1) & (table.keypoint == "left_eye")].iloc[0]
    assert [second.x, second.y, second.confidence] == given.keypoints[1, 1].tolist()
    assert (second.image_id, second.score) == (7, given.scores[1])


def test_a_table_of_a_stream_names_the_images() -> None:
    pytest.importorskip("pandas")
    stream = [(ImageFile(n, Path(f"{n}.jpg"), f"{n}.jpg"), poses(n, people=n)) for n in range(3)]
    table = adapters.to_pandas(iter(stream))
    assert len(table) == (1 + 2) * K
    assert table.groupby("file_name").person.nunique().to_dict() == {"1.jpg": 1, "2.jpg": 2}
    assert table.index.tolist() == list(range(3 * K))


def test_nobody_gives_a_table_with_the_same_columns() -> None:
    pytest.importorskip("pandas")
    for nothing, some in (
        (poses(people=0), poses()),
        ([], [(ImageFile(1, Path("a"), "a"), poses())]),
    ):
        empty, table = adapters.to_pandas(nothing), adapters.to_pandas(some)
        assert len(empty) == 0
        assert empty.dtypes.to_dict() == table.dtypes.to_dict()


def test_poses_of_another_skeleton_keep_its_names() -> None:
    pytest.importorskip("pandas")
    table = adapters.to_pandas([(ImageFile(1, Path("a"), "a"), poses(1, 2, DOG))])
    assert table["keypoint"].tolist() == 2 * list(DOG.keypoints)
    assert table["person"].tolist() == [0] * 10 + [1] * 10


def test_what_is_found_has_the_skeletons_category() -> None:
    pytest.importorskip("supervision")
    for convert in (adapters.to_sv_key_points, adapters.to_sv_detections):
        assert convert(poses(1, 2, DOG)).data["class_name"].tolist() == ["dog", "dog"]
    found = adapters.to_sv_detections(detections(boxes_xyxy=[[0, 0, 4, 4]]), class_name="dog")
    assert found.data["class_name"].tolist() == ["dog"]


@pytest.mark.parametrize(
    ("library", "function"),
    [
        ("supervision", adapters.to_sv_key_points),
        ("supervision", adapters.to_sv_detections),
        ("pandas", adapters.to_pandas),
    ],
)
def test_a_library_that_is_missing_is_named(
    library: str, function, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingDependencyError, match=rf"pip install 'posepipe\[{library}\]'"):
        function(poses())
