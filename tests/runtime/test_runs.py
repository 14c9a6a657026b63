"""Runs that end in a document: what is left out, what is kept when they are interrupted."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from builders import save_image
from stages import SomePeople, StickFigures

from posepipe.errors import DocumentError, ImageError
from posepipe.io.documents import as_written, made_by, read_boxes, read_keypoints
from posepipe.io.find_images import find_images
from posepipe.runtime.runs import RunOptions, run_both, run_detection, run_poses
from posepipe.scoring.rescore import rescored

IMAGES = 7


@pytest.fixture
def images(tmp_path):
    """Seven images, the fourth of which is broken."""
    for n in range(1, IMAGES + 1):
        save_image(tmp_path / f"pictures/{n}.png", 20 + n, 30)
    (tmp_path / "pictures/4.png").write_bytes(b"no image")
    return find_images([tmp_path / "pictures"])


@pytest.fixture
def options(tmp_path):
    """Makes options for an output of a given name."""

    def make(name, settings=None, **changes):
        return RunOptions(
            output=tmp_path / name, made_by=made_by("test", [], settings or {}), **changes
        )

    return make


def detect(images, options, stage=None):
    return run_detection(stage or SomePeople(), images, options)


def estimate(boxes, options, stage=None, digest="abc"):
    stage = stage or StickFigures()
    return run_poses(stage, boxes, options, finish=rescored, boxes_digest=digest)


def both(images, options, detection=None, pose=None):
    return run_both(
        detection or SomePeople(), pose or StickFigures(), images, options, finish=rescored
    )


def journal_of(options):
    return options.output.with_name(options.output.name + ".journal")


# --- what comes out


@pytest.mark.parametrize("workers", [0, 2])
def test_every_image_is_in_the_document_or_listed_as_skipped(images, options, workers):
    document = detect(images, options("boxes.json", workers=workers))
    assert [image.id for image in document.images] == [1, 2, 3, 5, 6, 7]
    assert [len(found) for found in document.detections] == [1, 2, 0, 2, 0, 1]
    assert document.detections[-1].size_wh == (27, 30)
    [skipped] = document.skipped
    assert skipped.file_name == "4.png"
    assert "4.png is not an image" in skipped.why


def test_what_is_written_is_what_is_returned(images, options):
    settings = options("boxes.json")
    document = detect(images, settings)
    read = read_boxes(settings.output)
    assert document.skipped[0].why.startswith(str(images.root / "4.png"))
    assert read.skipped[0].file_name == document.skipped[0].file_name == "4.png"
    assert read.skipped[0].why.startswith("4.png is not an image")
    assert read.made_by == document.made_by
    for there, here in zip(read.detections, document.detections, strict=True):
        assert np.array_equal(there.boxes_xyxy, as_written(here).boxes_xyxy)
        assert there.size_wh == here.size_wh
    assert not journal_of(settings).exists()


def test_poses_of_the_readable_images_are_written_and_the_others_listed(images, options):
    boxes = detect(images, options("boxes.json"))
    (images.root / "2.png").write_bytes(b"broken since")
    settings = options("kps.json")
    document, skipped = estimate(boxes, settings)
    assert [len(poses) for poses in document.poses] == [1, 0, 2, 0, 1]
    assert [entry.file_name for entry in skipped] == ["2.png"]
    # An image with nobody leaves no trace in a list of poses.
    assert [poses.image_id for poses in read_keypoints(settings.output).poses] == [1, 5, 7]
    assert not journal_of(settings).exists()


def test_finish_has_the_last_word_on_scores(images, options):
    boxes = detect(images, options("boxes.json"))
    document, _ = estimate(boxes, options("kps.json"))
    poses = document.poses[0]
    assert poses.scores == pytest.approx(poses.box_scores * poses.keypoints[..., 2].mean(axis=1))


def test_progress_is_told_of_every_image_and_its_people(images, options):
    told = []
    boxes = detect(images, options("boxes.json", progress=told.append))
    assert told == [1, 2, 0, 0, 2, 0, 1]
    told.clear()
    estimate(boxes, options("kps.json", progress=told.append))
    assert told == [1, 2, 0, 2, 0, 1]
    told.clear()
    both(images, options("both.json", progress=told.append))
    assert sum(told) == 6
    assert len(told) == IMAGES


def test_both_in_one_go_are_one_after_the_other(images, options):
    boxes, one, other = options("boxes.json"), options("one.json"), options("other.json")
    detect(images, boxes)
    _, skipped_before = estimate(read_boxes(boxes.output), one)
    _, skipped = both(images, other)
    assert other.output.read_bytes() == one.output.read_bytes()
    assert skipped_before == ()  # boxes.json has listed it already
    assert [entry.file_name for entry in skipped] == ["4.png"]


def test_images_none_of_which_can_be_read_end_in_an_empty_document(tmp_path, options):
    (tmp_path / "broken").mkdir()
    for n in (1, 2, 3):
        (tmp_path / f"broken/{n}.jpg").write_bytes(b"no image")
    images = find_images([tmp_path / "broken"])
    assert len(detect(images, options("boxes.json")).skipped) == 3
    document, skipped = both(images, options("both.json"))
    assert (document.poses, len(skipped)) == ((), 3)


# --- strict


@pytest.mark.parametrize("command", [detect, both])
def test_strict_ends_at_the_first_image_that_cannot_be_read(command, images, options):
    settings = options("out.json", strict=True, workers=0)
    with pytest.raises(ImageError, match=r"4\.png is not an image"):
        command(images, settings)
    assert not settings.output.exists()
    assert journal_of(settings).exists()


def test_strict_poses_end_at_the_first_image_that_cannot_be_read(images, options):
    boxes = detect(images, options("boxes.json"))
    (images.root / "2.png").unlink()
    settings = options("kps.json", strict=True)
    with pytest.raises(ImageError, match=r"2\.png: no such file"):
        estimate(boxes, settings)
    assert not settings.output.exists()


# --- interrupted and resumed


@pytest.mark.parametrize("after", range(IMAGES))
@pytest.mark.parametrize("workers", [0, 2])
def test_an_interrupted_detection_ends_in_the_same_file(images, options, after, workers):
    whole, parts = options("whole.json"), options("parts.json", workers=workers)
    detect(images, whole)
    if after < IMAGES - 1:  # one of the seven never reaches the stage
        with pytest.raises(KeyboardInterrupt):
            detect(images, parts, SomePeople(interrupted_after=after))
        assert not parts.output.exists()
    detect(images, dataclasses.replace(parts, resume=True))
    assert parts.output.read_bytes() == whole.output.read_bytes()
    assert not journal_of(parts).exists()


@pytest.mark.parametrize("after", [0, 2, 3, 5])
def test_interrupted_poses_end_in_the_same_file(images, options, after):
    boxes = detect(images, options("boxes.json"))
    whole, parts = options("whole.json"), options("parts.json")
    estimate(boxes, whole)
    with pytest.raises(KeyboardInterrupt):
        estimate(boxes, parts, StickFigures(interrupted_after=after))
    assert not parts.output.exists()
    estimate(boxes, dataclasses.replace(parts, resume=True))
    assert parts.output.read_bytes() == whole.output.read_bytes()


@pytest.mark.parametrize(
    "stages",
    [
        {"detection": SomePeople(interrupted_after=5)},
        {"pose": StickFigures(interrupted_after=3)},
        {"pose": StickFigures(interrupted_after=0)},
    ],
)
def test_an_interrupted_run_of_both_ends_in_the_same_file(images, options, stages):
    whole, parts = options("whole.json"), options("parts.json")
    _, skipped = both(images, whole)
    with pytest.raises(KeyboardInterrupt):
        both(images, parts, **stages)
    _, skipped_again = both(images, dataclasses.replace(parts, resume=True))
    assert parts.output.read_bytes() == whole.output.read_bytes()
    assert skipped_again == skipped


def test_a_resumed_run_does_not_work_twice(images, options):
    settings = options("boxes.json", workers=0)
    with pytest.raises(KeyboardInterrupt):
        detect(images, settings, SomePeople(interrupted_after=4))
    # Batches of two: four images are finished, the broken one between them too.
    stage = SomePeople(interrupted_after=2)
    detect(images, dataclasses.replace(settings, resume=True), stage)
    assert stage.left == 0


def test_an_interrupted_run_is_not_begun_anew_by_accident(images, options):
    settings = options("boxes.json")
    with pytest.raises(KeyboardInterrupt):
        detect(images, settings, SomePeople(interrupted_after=4))
    with pytest.raises(DocumentError, match="from an interrupted run: go on from it with --resume"):
        detect(images, settings)


def test_resuming_with_other_settings_is_refused(images, options):
    with pytest.raises(KeyboardInterrupt):
        detect(images, options("boxes.json", {"flip": False}), SomePeople(interrupted_after=4))
    with pytest.raises(DocumentError, match=r"settings\.flip was False, is True"):
        detect(images, options("boxes.json", {"flip": True}, resume=True))


def test_resuming_with_other_images_is_refused(images, options):
    with pytest.raises(KeyboardInterrupt):
        detect(images, options("boxes.json"), SomePeople(interrupted_after=4))
    save_image(images.root / "8.png")
    with pytest.raises(DocumentError, match="of another run"):
        detect(find_images([images.root]), options("boxes.json", resume=True))


def test_resuming_poses_with_other_boxes_is_refused(images, options):
    boxes = detect(images, options("boxes.json"))
    with pytest.raises(KeyboardInterrupt):
        estimate(boxes, options("kps.json"), StickFigures(interrupted_after=2), digest="abc")
    with pytest.raises(DocumentError, match="boxes was abc, is xyz"):
        estimate(boxes, options("kps.json", resume=True), digest="xyz")


def test_resuming_where_nothing_was_begun_is_starting(images, options):
    settings = options("boxes.json", resume=True)
    detect(images, settings)
    assert settings.output.exists()


def test_an_earlier_output_stays_until_the_new_one_is_whole(images, options):
    settings = options("boxes.json")
    settings.output.write_text("[]")
    with pytest.raises(KeyboardInterrupt):
        detect(images, settings, SomePeople(interrupted_after=4))
    assert settings.output.read_text() == "[]"
