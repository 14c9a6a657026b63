"""Whatever is wrong is said in one line, and a traceback is never the answer."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders import annotation, annotation_file, image_entry, pose_entry, save_json
from commands import (
    blank,
    boxes_file,
    content,
    error_of,
    lines,
    photo,
    posepipe,
    truncated,
)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (["{tmp}/absent"], "absent: no such file or folder: check the path"),
        (["{tmp}/absent.jpg"], "absent.jpg: no such file: check the path"),
        (["{tmp}/empty"], "empty: a folder without images"),
        (["{tmp}/nest"], "search them with --recursive"),
        (["{tmp}/*.jpeg"], "no file matches this pattern"),
        (["{tmp}/nothing.txt"], "a list that names no images"),
        (["--split", "minival", "--data", "{tmp}"], "--data DIR or $POSEPIPE_DATA"),
        (["--split", "val2014"], "no split 'val2014'; there are: minival"),
    ],
)
@pytest.mark.parametrize("command", ["detect", "run"])
def test_inputs_that_lead_nowhere_are_named(
    command: str, inputs: list[str], says: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    blank(tmp_path / "nest" / "deep" / "a.jpg")
    (tmp_path / "nothing.txt").write_text("# nothing\n", encoding="utf-8")
    result = posepipe(
        command, *(text.format(tmp=tmp_path) for text in inputs), "-o", tmp_path / "out.json"
    )
    assert says in error_of(result)
    assert not list(tmp_path.glob("out.json*"))


def test_images_that_cannot_be_read_are_listed_and_the_others_done(
    detector: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    photo(folder / "good.jpg")
    truncated(folder / "half.jpg")
    (folder / "text.png").write_text("no image", encoding="utf-8")
    (folder / "zero.jpg").touch()
    output = tmp_path / "boxes.json"
    result = posepipe(
        "detect", folder, folder / "gone.jpg", "-o", output, "--model", detector, "--min-score", 0
    )
    assert result.exit_code == 1, "most of them were"
    assert result.stdout == ""
    *skipped, count, lost = lines(result)
    assert count == "posepipe: 4 inputs skipped"
    assert lost.startswith("posepipe: 4 of 5 images were skipped: the results of the others")
    for line, (name, why) in zip(
        skipped,
        [
            ("gone.jpg", "no such file"),
            ("half.jpg", "is damaged or truncated"),
            ("text.png", "is not an image in a known format"),
            ("zero.jpg", "is empty (0 bytes)"),
        ],
        strict=True,
    ):
        assert line.startswith(f"posepipe: skipped: {folder / name}")
        assert why in line
    document = content(output)
    assert [image["file_name"] for image in document["images"]] == ["good.jpg"]
    assert [Path(s["file_name"]).name for s in document["skipped"]] == [
        "gone.jpg",
        "half.jpg",
        "text.png",
        "zero.jpg",
    ]


def test_the_strict_stop_at_the_first_image_that_cannot_be_read(
    detector: Path, tmp_path: Path
) -> None:
    truncated(tmp_path / "in" / "a.jpg")
    blank(tmp_path / "in" / "b.jpg")
    output = tmp_path / "out.json"
    result = posepipe("detect", tmp_path / "in", "-o", output, "--model", detector, "--strict")
    assert "a.jpg is damaged or truncated" in error_of(result)
    assert not output.exists()


def test_a_strict_run_goes_on_once_the_image_is_mended(detector: Path, tmp_path: Path) -> None:
    blank(tmp_path / "in" / "a.jpg")
    truncated(tmp_path / "in" / "b.jpg")
    output = tmp_path / "out.json"
    command = ("detect", tmp_path / "in", "-o", output, "--model", detector, "--strict")
    one_by_one = ("--batch-size", "1")
    assert "mend it, then go on with --resume" in error_of(posepipe(*command, *one_by_one))
    assert (tmp_path / "out.json.journal").exists()
    blank(tmp_path / "in" / "b.jpg")
    assert posepipe(*command, *one_by_one, "--resume").exit_code == 0
    assert [image["file_name"] for image in content(output)["images"]] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("command", ["detect", "run"])
def test_that_no_image_at_all_could_be_read_is_an_error(
    command: str, detector: Path, tmp_path: Path
) -> None:
    truncated(tmp_path / "in" / "a.jpg")
    output = tmp_path / "out.json"
    option = "--model" if command == "detect" else "--detector"
    result = posepipe(command, tmp_path / "in", "-o", output, option, detector)
    assert result.exit_code == 1
    assert lines(result)[-1] == f"posepipe: no image could be read: {output} has nobody in it"
    document = content(output)  # it is written all the same: it says why
    assert document == [] if command == "run" else len(document["skipped"]) == 1


def test_a_missing_image_of_a_boxes_file_is_skipped(tmp_path: Path) -> None:
    photo(tmp_path / "pictures" / "a.jpg")
    images = [
        {"id": n, "file_name": name, "width": 200, "height": 200}
        for n, name in enumerate(["a.jpg", "gone.jpg"], 1)
    ]
    people = [
        {"image_id": n, "category_id": 1, "bbox": [30, 5, 130, 190], "score": 0.9} for n in (1, 2)
    ]
    boxes = boxes_file(tmp_path / "boxes.json", images=images, annotations=people)
    result = posepipe("pose", boxes, "-o", tmp_path / "kps.json")
    assert result.exit_code == 0
    assert [person["image_id"] for person in content(tmp_path / "kps.json")] == [1]
    missing = tmp_path / "pictures" / "gone.jpg"
    assert lines(result) == [
        f"posepipe: skipped: {missing}: no such file: check the path",
        "posepipe: 1 input skipped",
    ]
    strict = posepipe("pose", boxes, "-o", tmp_path / "strict.json", "--strict")
    assert "gone.jpg: no such file" in error_of(strict)
    drawn = posepipe("draw", boxes, "-o", tmp_path / "drawn")
    assert drawn.exit_code == 0
    assert drawn.stdout.split() == [str(tmp_path / "drawn" / "a.jpg")]
    assert lines(drawn) == lines(result)
    assert (
        "gone.jpg: no such file"
        in posepipe("draw", boxes, "-o", tmp_path / "drawn", "--strict").stderr
    )


def test_unsound_boxes_are_left_out_and_listed(tmp_path: Path) -> None:
    photo(tmp_path / "pictures" / "a.jpg")
    boxes = boxes_file(
        tmp_path / "boxes.json",
        [30, 5, 130, 190],
        [50, 50, 0, 20],
        [300, 300, 20, 20],
        [150, 150, 100, 100],  # reaches out of its image: sound
    )
    result = posepipe("pose", boxes, "-o", tmp_path / "kps.json")
    assert result.exit_code == 0
    assert len(content(tmp_path / "kps.json")) == 2
    no_area, outside, count = lines(result)
    assert "left out: image 1 (a.jpg): box [50, 50, 0, 20]" in no_area
    assert "no area" in no_area
    assert "outside its image of 200 x 200 pixels" in outside
    assert count == "posepipe: 2 boxes left out"


def test_strict_stops_at_an_unsound_box(tmp_path: Path) -> None:
    photo(tmp_path / "pictures" / "a.jpg")
    boxes = boxes_file(tmp_path / "boxes.json", [30, 5, 130, 190], [50, 50, 0, 20])
    result = posepipe("pose", boxes, "-o", tmp_path / "kps.json", "--strict")
    assert "box [50, 50, 0, 20]" in error_of(result)
    assert not (tmp_path / "kps.json").exists()


def test_strict_stops_at_an_input_that_leads_nowhere_before_anything_else(tmp_path: Path) -> None:
    photo(tmp_path / "in" / "a.jpg")
    output = tmp_path / "out.json"
    result = posepipe("detect", tmp_path / "in", tmp_path / "gone", "-o", output, "--strict")
    assert f"{tmp_path / 'gone'}: no such file" in error_of(result)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]  # no journal either


def test_boxes_of_other_categories_are_left_out_and_counted(tmp_path: Path) -> None:
    photo(tmp_path / "pictures" / "a.jpg")
    dog = {"image_id": 1, "category_id": 18, "bbox": [30, 5, 130, 190], "score": 0.9}
    boxes = boxes_file(tmp_path / "boxes.json", annotations=[dog, dog | {"category_id": 1}])
    result = posepipe("pose", boxes, "-o", tmp_path / "kps.json")
    assert result.exit_code == 0
    assert lines(result) == ["posepipe: 1 box of categories other than person left out"]
    assert len(content(tmp_path / "kps.json")) == 1


def test_boxes_of_other_categories_alone_are_an_error(tmp_path: Path) -> None:
    photo(tmp_path / "pictures" / "a.jpg")
    dog = {"image_id": 1, "category_id": 18, "bbox": [30, 5, 130, 190], "score": 0.9}
    boxes = boxes_file(tmp_path / "boxes.json", annotations=[dog])
    line = error_of(posepipe("pose", boxes, "-o", tmp_path / "kps.json"))
    assert "no box of 1 is of a person: their category_id is 18, a person's is 1" in line
    assert not (tmp_path / "kps.json").exists()


def test_that_there_are_no_people_anywhere_is_said(detector: Path, tmp_path: Path) -> None:
    blank(tmp_path / "in" / "a.jpg")
    boxes, keypoints = tmp_path / "boxes.json", tmp_path / "kps.json"
    nobody = "posepipe: no people found in 1 image"
    options = ("--min-score", "0.99")
    found = posepipe("detect", tmp_path / "in", "-o", boxes, "--model", detector, *options)
    assert (found.exit_code, lines(found)) == (0, [nobody])
    posed = posepipe("pose", boxes, "-o", keypoints)
    assert (posed.exit_code, lines(posed)) == (0, [nobody])
    both = posepipe(
        "run", tmp_path / "in", "-o", tmp_path / "run.json", "--detector", detector, *options
    )
    assert (both.exit_code, lines(both)) == (0, [nobody])
    assert content(keypoints) == content(tmp_path / "run.json") == []
    drawn = posepipe("draw", keypoints, "-o", tmp_path / "drawn")
    assert (drawn.exit_code, drawn.stdout) == (0, "")
    assert lines(drawn) == [f"posepipe: {keypoints} names no image: nothing was drawn"]
    labels = annotation_file(tmp_path / "labels.json", [annotation()])
    scored = posepipe("eval", keypoints, "--annotations", labels)
    assert scored.exit_code == 0
    assert "posepipe: warning: the results hold no poses: every number is 0" in lines(scored)


BOXES_LIKE = [
    ("", "is not JSON"),
    ("{", "is not JSON"),
    ("null", "is not"),
    ("17", "is not"),
    ('{"a": 1}', "is not"),
    ('[{"image_id": 1}]', "is not"),
    ('[[[["deep"]]]]', "entries that cannot be read: 1 of 1"),
    ("\x00\x01", "is not JSON"),
]


@pytest.mark.parametrize(("text", "says"), BOXES_LIKE)
@pytest.mark.parametrize("command", ["pose", "draw", "eval"])
def test_a_file_of_the_wrong_shape_is_named(
    command: str, text: str, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "in.json"
    file.write_text(text, encoding="utf-8")
    labels = annotation_file(tmp_path / "labels.json", [annotation()])
    last = ["--annotations", labels] if command == "eval" else ["-o", tmp_path / "out"]
    line = error_of(posepipe(command, file, *last))
    assert str(file) in line or command == "eval"
    assert says in line or "has no keypoints" in line
    assert not (tmp_path / "out").exists()


def test_files_that_hold_something_else_than_asked_for_are_recognised(
    person: Path, tmp_path: Path
) -> None:
    keypoints = save_json(tmp_path / "kps.json", [pose_entry()])
    labels = annotation_file(tmp_path / "labels.json", [annotation()])
    output = tmp_path / "out"
    for arguments, says in [
        (("pose", keypoints, "-o", output), "holds keypoints, not boxes"),
        (("pose", labels, "-o", output), "with --ground-truth"),
        (("draw", labels, "-o", output), "is an annotation file"),
        (("eval", labels, "--annotations", labels), "is an annotation file"),
        (("eval", keypoints, "--annotations", keypoints), "is not a COCO annotation file"),
        (("eval", keypoints, "--annotations", person), "labels people but no keypoints"),
        (("pose", "--ground-truth", keypoints, "--images", tmp_path, "-o", output), "is not"),
        (("pose", person, "--annotations", labels, "-o", output), "leave out --annotations"),
        (("pose", tmp_path, "-o", output), "is a folder: name a JSON file"),
        (("pose", tmp_path / "absent.json", "-o", output), "absent.json: no such file"),
        (("pose", person, "--images", tmp_path / "absent", "-o", output), "no such folder"),
    ]:
        assert says in error_of(posepipe(*arguments)), arguments
        assert not output.exists()


@pytest.mark.parametrize("changes", [{"iscrowd": 1}, {"keypoints": [0] * 51}])
def test_labels_of_whom_nobody_counts_fail_an_evaluation(
    changes: dict[str, object], tmp_path: Path
) -> None:
    labels = annotation_file(tmp_path / "labels.json", [annotation(**changes)])
    keypoints = save_json(tmp_path / "kps.json", [pose_entry(file_name=None)])
    result = posepipe("eval", keypoints, "--annotations", labels)
    assert (result.exit_code, result.stdout) == (1, "")
    assert lines(result)[-1].endswith(
        "labels.json labels nobody who counts: there is nothing to evaluate on"
    )


def test_a_detection_list_needs_the_folder_of_its_images(tmp_path: Path) -> None:
    boxes = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]
    plain = save_json(tmp_path / "list.json", boxes)
    line = error_of(posepipe("pose", plain, "-o", tmp_path / "kps.json"))
    assert "--images DIR" in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_id": 99, "file_name": None}, "lacks for example 99"),
        ({"file_name": "other.jpg"}, "lacks for example other.jpg"),
        ({"keypoints": [1.0, 2.0, 0.5]}, "numbers as keypoints, not 51"),
        ({"keypoints": [0.5] * 51}, "they are normalised"),
        ({"score": None}, "has no score"),
        ({"keypoints": [float("nan")] * 51}, "not finite"),
    ],
)
def test_results_that_cannot_be_scored_are_refused(
    changes: dict[str, object], says: str, tmp_path: Path
) -> None:
    keypoints = save_json(tmp_path / "kps.json", [pose_entry(**changes)])
    labels = annotation_file(
        tmp_path / "labels.json", [annotation()], [image_entry(1, file_name="a.jpg")]
    )
    assert says in error_of(posepipe("eval", keypoints, "--annotations", labels))


@pytest.mark.parametrize(
    "line", ["x" * 300 + ".jpg", "x" * 1_000_000 + ".jpg", "a/" * 3000, "\0.jpg"]
)
def test_a_line_of_a_list_that_is_no_name_is_skipped_in_one_line(
    line: str, detector: Path, person: Path, tmp_path: Path
) -> None:
    names, output = tmp_path / "list.txt", tmp_path / "found.json"
    names.write_text(f"{person.parent}/pictures/a.jpg\n{line}\n")
    for _ in range(2):  # the second time there is an output, which must not be an input
        result = posepipe("detect", names, "--model", detector, "-o", output)
        assert result.exit_code == 0
        skipped, count = lines(result)
        assert skipped.startswith("posepipe: skipped: ")
        assert len(skipped) < 2100
        assert count == "posepipe: 1 input skipped"


def test_images_with_more_pixels_than_allowed_are_skipped_by_name(
    detector: Path, tmp_path: Path
) -> None:
    photo(tmp_path / "in" / "a.jpg", 120)
    photo(tmp_path / "in" / "b.jpg", 200)
    boxes, poses = tmp_path / "boxes.json", tmp_path / "kps.json"
    limit = ("--max-pixels", 20_000)
    result = posepipe("detect", tmp_path / "in", "--model", detector, "-o", boxes, *limit)
    skipped, *_ = lines(result)
    assert "b.jpg has 40,000 pixels, more than 20,000" in skipped
    assert [image["file_name"] for image in content(boxes)["images"]] == ["a.jpg"]
    result = posepipe("pose", boxes, "-o", poses, "--max-pixels", 10_000)
    assert result.exit_code == 1
    assert "a.jpg has 14,400 pixels, more than 10,000" in lines(result)[1]
