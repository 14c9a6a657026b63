from __future__ import annotations

from pathlib import Path

import pytest

from posepipe.errors import DocumentError, ImageError, OptionError
from posepipe.io.splits import SPLIT_NAMES, data_root, find_split


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """An empty data root with COCO's layout."""
    for folder in ("train2017", "val2017"):
        (tmp_path / folder).mkdir()
        file = tmp_path / "annotations" / f"person_keypoints_{folder}.json"
        file.parent.mkdir(exist_ok=True)
        file.touch()
    return tmp_path


def test_every_split_is_found(coco: Path) -> None:
    for name in SPLIT_NAMES:
        split = find_split(name, coco)
        assert split.name == name
        assert split.annotations.is_file()
        assert split.images.is_dir()


def test_minival_is_the_images_of_val2017(coco: Path) -> None:
    minival, val2017 = find_split("minival", coco), find_split("val2017", coco)
    assert minival.annotations == val2017.annotations
    assert minival.images == val2017.images
    assert minival.images != find_split("train2017", coco).images


def test_the_data_root_is_given_or_in_the_environment_or_the_default(
    coco: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POSEPIPE_DATA", raising=False)
    assert data_root() == Path("datasets/coco")
    monkeypatch.setenv("POSEPIPE_DATA", str(coco))
    assert data_root() == coco
    assert data_root("elsewhere") == Path("elsewhere")
    assert find_split("minival").images == coco / "val2017"


def test_an_unknown_name_lists_the_known_ones(coco: Path) -> None:
    with pytest.raises(OptionError, match="'val2014'; there are: minival, train2017, val2017"):
        find_split("val2014", coco)


def test_a_missing_annotation_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(DocumentError) as caught:
        find_split("minival", tmp_path)
    assert str(tmp_path / "annotations" / "person_keypoints_val2017.json") in str(caught.value)
    assert "--data DIR or $POSEPIPE_DATA" in str(caught.value)


def test_images_are_asked_for_only_where_they_are_needed(coco: Path) -> None:
    (coco / "val2017").rmdir()
    with pytest.raises(ImageError, match=r"val2017, no such folder: .*--data DIR"):
        find_split("minival", coco)
    assert find_split("minival", coco, images_needed=False).annotations.is_file()
