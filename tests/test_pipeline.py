"""The pipeline: any kind of image, streams in order, options that reach the stages."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from builders import an_image, save_image
from PIL import Image

import posepipe
from posepipe import pipeline as module
from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON
from posepipe.detection.stage import DetectionSettings
from posepipe.errors import ImageError, OptionError
from posepipe.options import (
    DEFAULT_POSE_MODEL,
    DetectionOptions,
    PoseOptions,
)
from posepipe.pipeline import Pipeline
from posepipe.scoring.rescore import rescored
from posepipe.zoo.recipe import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"


class OnePerson:
    """Finds one person that fills the image."""

    batch_size = 2
    settings = DetectionSettings()

    def prepare(self, image):
        return image.id, image.read().shape

    def weight(self, ready):
        return 1

    def __call__(self, batch):
        return [Detections(i, [[0, 0, w, h]], [0.5], (w, h)) for i, (h, w, _) in batch]


class Centred:
    """Puts every keypoint into the middle of its box, half sure."""

    batch_size = 2
    skeleton = COCO_PERSON

    def prepare(self, item):
        return item[1]

    def weight(self, ready):
        return len(ready)

    def __call__(self, batch):
        return [self._poses(found) for found in batch]

    def _poses(self, found):
        boxes, scores = found.boxes_xyxy.astype(float), found.scores.astype(float)
        centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
        keypoints = np.concatenate([centres, np.full((len(boxes), 1, 1), 0.5)], axis=-1)
        return Poses(found.image_id, keypoints.repeat(17, axis=1), scores, boxes, scores)


@pytest.fixture
def fake_stages(monkeypatch):
    """Stages without networks; what is around them is tested."""
    monkeypatch.setattr(module, "load_detection", lambda *_, **__: OnePerson())
    monkeypatch.setattr(module, "load_pose", lambda *_, **__: Centred())
    module._default_pipeline.cache_clear()
    yield
    module._default_pipeline.cache_clear()


def test_a_detector_of_something_else_than_the_poses_is_refused(folder, monkeypatch, fake_stages):
    monkeypatch.setattr(OnePerson, "settings", DetectionSettings(category="dog"))
    monkeypatch.setattr(Centred, "models", [load_recipe(DEFAULT_POSE_MODEL)], raising=False)
    pipeline = Pipeline()
    expected = f"finds 'dog', but the pose model {DEFAULT_POSE_MODEL} is for 'person'"
    for work in (pipeline.load, lambda: pipeline(an_image()), lambda: pipeline.stream(folder)):
        with pytest.raises(OptionError, match=expected):
            work()
    assert len(pipeline.detect(an_image())) == 1
    assert len(pipeline.poses(an_image(), [[0, 0, 5, 5]])) == 1


@pytest.fixture
def folder(tmp_path):
    """Three images in a folder, one more in a folder inside it."""
    for n, name in enumerate(["b1.png", "b2.jpg", "b10.png", "deeper/c.png"]):
        save_image(tmp_path / "pictures" / name, 10 + n, 20)
    return tmp_path / "pictures"


def working_threads():
    return [t for t in threading.enumerate() if t.name.startswith("posepipe-prefetch")]


def names(stream):
    return [image.file_name for image, _ in stream]


# --- inputs


@pytest.mark.parametrize("function", [posepipe.detect, posepipe.estimate_poses])
def test_paths_of_every_form_are_looked_up(function, folder, fake_stages):
    assert names(function(folder)) == ["b1.png", "b2.jpg", "b10.png"]
    assert names(function(str(folder / "*.png"))) == ["b1.png", "b10.png"]
    assert names(function(folder / "b2.jpg")) == ["b2.jpg"]
    assert names(function([folder / "b10.png", str(folder / "b1.png")])) == ["b1.png", "b10.png"]
    assert names(function((folder,), recursive=True))[-1] == "deeper/c.png"


@pytest.mark.parametrize("function", [posepipe.detect, posepipe.estimate_poses])
def test_arrays_of_every_form_are_taken(function, fake_stages):
    arrays = [an_image(8 + n, 6) for n in range(3)]

    def ids_and_widths(inputs):
        return [(image.id, people.boxes_xyxy[0, 2]) for image, people in function(inputs)]

    assert ids_and_widths([]) == []
    assert ids_and_widths(arrays[0]) == [(1, 8)]
    assert ids_and_widths(arrays) == [(1, 8), (2, 9), (3, 10)]
    assert ids_and_widths(array for array in arrays) == [(1, 8), (2, 9), (3, 10)]


# --- streams


class Camera:
    """Frames without end; knows how many were asked for."""

    def __init__(self):
        self.asked = 0

    def __iter__(self):
        while True:
            self.asked += 1
            yield an_image(10 + self.asked, 6)


@pytest.mark.parametrize("method", ["stream", "stream_detections"])
@pytest.mark.parametrize("wrap", [lambda camera: camera, iter])
def test_a_live_source_gives_each_result_before_the_next_image_is_asked_for(
    method, wrap, fake_stages
):
    camera = Camera()
    stream = getattr(Pipeline(), method)(wrap(camera))
    assert camera.asked == 0
    for n, (image, people) in enumerate(itertools.islice(stream, 5), start=1):
        assert camera.asked == n
        assert image.id == n
        assert people.boxes_xyxy[0, 2] == 10 + n
    assert working_threads() == []


def test_a_slow_source_is_not_waited_for_to_fill_a_batch(fake_stages):
    first_is_there = threading.Event()

    def slow():
        yield an_image()
        assert first_is_there.wait(timeout=30)
        yield an_image()

    count = 0
    for _ in Pipeline().stream(slow()):
        first_is_there.set()
        count += 1
    assert count == 2


@pytest.mark.parametrize("together", [2, 7])
def test_so_many_images_are_taken_together_as_is_asked(together, fake_stages):
    camera = Camera()
    stream = Pipeline().stream(camera, together=together)
    for n, _ in enumerate(itertools.islice(stream, 20)):
        assert camera.asked == (n // together + 1) * together
    stream.close()
    assert working_threads() == []


def test_a_list_is_worked_on_ahead_and_closing_stops_the_threads(fake_stages):
    stream = Pipeline().stream([an_image()] * 50)
    next(stream)
    assert working_threads() != []
    stream.close()
    assert working_threads() == []


def test_a_camera_that_gives_nothing_is_named_and_may_be_passed_over(fake_stages):
    frames = [an_image(), None, an_image()]
    with pytest.raises(ImageError, match=r"^image-2: None, not an image: the camera or video"):
        list(Pipeline().stream(iter(frames)))
    passed = list(Pipeline().stream(iter(frames), unreadable="skip"))
    assert [image.id for image, _ in passed] == [1, 3]
    with pytest.raises(ImageError, match="None, not an image"):
        Pipeline()(None)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"together": 0}, "together must be at least 1 image, got 0"),
        ({"unreadable": "ignore"}, "unreadable takes 'raise' or 'skip', got 'ignore'"),
        ({"colour": "BGR"}, "colour takes 'rgb' or 'bgr', got 'BGR'"),
    ],
)
def test_options_of_a_stream_are_checked_before_any_work(option, message, fake_stages):
    with pytest.raises(OptionError, match=message):
        Pipeline().stream([an_image()], **option)


# --- one image


def test_one_image_gives_the_poses_that_a_stream_gives(folder, fake_stages):
    pipeline = Pipeline()
    path = folder / "b2.jpg"
    [(image, of_stream)] = pipeline.stream(path)
    for given in (path, str(path), image, image.read(), Image.open(path)):
        poses = pipeline(given)
        np.testing.assert_array_equal(poses.keypoints, of_stream.keypoints)
        np.testing.assert_array_equal(poses.scores, of_stream.scores)
    bgr = np.ascontiguousarray(image.read()[:, :, ::-1])
    np.testing.assert_array_equal(pipeline(bgr, colour="bgr").keypoints, of_stream.keypoints)


def test_the_pipelines_parts_give_what_the_whole_gives(fake_stages):
    pipeline = Pipeline()
    found = pipeline.detect(an_image(20, 10))
    assert found.boxes_xyxy.tolist() == [[0, 0, 20, 10]]
    assert found.size_wh == (20, 10)
    by_hand = pipeline.poses(an_image(20, 10), found.boxes_xyxy, scores=found.scores)
    whole = pipeline(an_image(20, 10))
    np.testing.assert_array_equal(by_hand.keypoints, whole.keypoints)
    assert by_hand.scores.tolist() == whole.scores.tolist() == [0.25]


def test_boxes_of_ones_own_keep_their_order_and_need_no_scores(fake_stages):
    boxes = [[5, 5, 9, 9], [0, 0, 4, 4]]
    poses = Pipeline().poses(an_image(), boxes)
    assert poses.boxes_xyxy.tolist() == boxes
    assert poses.box_scores.tolist() == [1, 1]
    assert len(Pipeline().poses(an_image(), [])) == 0


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        ([[5, 5, 4, 9]], None, "x1 <= x2"),
        ([5, 5, 9, 9], None, r"boxes_xyxy must have shape \(N, 4\)"),
        ([[0, 0, 4, 4]], [2], r"scores must lie in \[0, 1\]"),
        ([[0, 0, 4, 4]], [0.5, 0.5], "scores"),
        ([[0, 0, 4, np.nan]], None, "finite"),
        ([[0, 0, 1e308, 4]], None, "finite"),
        ("x", None, "boxes_xyxy must be an array of numbers"),
        ([[1, 2, 3, 4], [1, 2]], None, "boxes_xyxy must be an array of numbers"),
        (None, None, r"boxes_xyxy must have shape \(N, 4\)"),
        ([[0, 0, 4, 4]], ["high"], "scores must be an array of numbers"),
    ],
)
def test_boxes_that_are_none_are_refused(boxes, scores, message, fake_stages):
    with pytest.raises(OptionError, match=message):
        Pipeline().poses(an_image(), boxes, scores=scores)


def test_a_folder_is_no_single_image(folder, fake_stages):
    with pytest.raises(ImageError, match="is a folder, not an image"):
        Pipeline()(folder)


# --- loaded once


def test_models_are_loaded_once_and_only_those_that_are_needed(monkeypatch):
    loaded = []
    monkeypatch.setattr(module, "load_detection", lambda *_, **__: loaded.append(1) or OnePerson())
    monkeypatch.setattr(module, "load_pose", lambda *_, **__: loaded.append(2) or Centred())
    pipeline = Pipeline()
    assert loaded == []
    pipeline.poses(an_image(), [[0, 0, 4, 4]])
    assert loaded == [2]
    for _ in range(3):
        pipeline(an_image())
        list(pipeline.stream([an_image()]))
    assert loaded == [2, 1]
    assert pipeline.load() is pipeline
    assert loaded == [2, 1]


def test_threads_that_need_the_models_at_once_load_them_once(monkeypatch):
    loaded = []

    def load(*_, **__):
        loaded.append(1)
        time.sleep(0.05)  # the others come meanwhile
        return OnePerson()

    monkeypatch.setattr(module, "load_detection", load)
    pipeline = Pipeline()
    with ThreadPoolExecutor(8) as pool:
        stages = set(pool.map(lambda _: pipeline.detection_stage, range(8)))
    assert len(stages) == len(loaded) == 1


def test_the_functions_load_the_default_models_once(monkeypatch):
    loaded = []
    monkeypatch.setattr(module, "load_detection", lambda *_, **__: loaded.append(1) or OnePerson())
    module._default_pipeline.cache_clear()
    for _ in range(3):
        list(posepipe.detect(an_image()))
    assert loaded == [1]
    list(posepipe.detect(an_image(), options=DetectionOptions(min_score=0.5)))
    assert loaded == [1, 1]
    module._default_pipeline.cache_clear()


def test_paths_and_arrays_in_one_list_are_images_in_their_order(folder, fake_stages):
    given = [folder / "b1.png", an_image(5, 5), folder / "b10.png"]
    assert names(posepipe.detect(given)) == ["b1.png", "image-2", "b10.png"]


def test_an_input_that_leads_nowhere_is_named(tmp_path, fake_stages):
    with pytest.raises(ImageError, match=r"nothing\.jpg: no such file"):
        posepipe.detect(tmp_path / "nothing.jpg")


@pytest.mark.parametrize("function", [posepipe.detect, posepipe.estimate_poses])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_image_ends_the_stream_or_is_left_out(function, workers, folder, fake_stages):
    (folder / "b2.jpg").write_bytes(b"no image")
    stream = function(folder, workers=workers)
    with pytest.raises(ImageError, match=r"b2\.jpg is not an image"):
        list(stream)
    assert names(function(folder, workers=workers, unreadable="skip")) == ["b1.png", "b10.png"]


# --- options


def test_poses_are_rescored_unless_told_otherwise(fake_stages):
    [(_, scored)] = posepipe.estimate_poses(an_image())
    assert scored.scores.tolist() == [0.25]
    plain = posepipe.PoseOptions(rescore=False)
    [(_, poses)] = posepipe.estimate_poses(an_image(), options=plain)
    assert poses.scores.tolist() == [0.5]


def test_duplicates_are_left_out_if_asked_for():
    twice = Detections(1, [[0, 0, 40, 40], [0, 0, 40, 41], [100, 100, 140, 140]], [0.5, 0.9, 0.2])
    poses = Centred()._poses(twice)
    assert len(Pipeline().finish(poses)) == 3
    kept = Pipeline(pose=PoseOptions(oks_nms=0.9)).finish(poses)
    assert np.sort(kept.scores).tolist() == pytest.approx([0.1, 0.45])
    assert np.array_equal(Pipeline().finish(poses).scores, rescored(poses).scores)


# --- the whole way, with the models that ship


def test_importing_posepipe_offers_its_public_names():
    assert set(posepipe.__all__) <= set(dir(posepipe))
    for name in posepipe.__all__:
        assert getattr(posepipe, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = posepipe.no_such_name
