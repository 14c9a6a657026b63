"""The pipeline: any kind of image, streams in order, options that reach the stages."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import picture, save_picture
from commands import smaller_detector
from PIL import Image
from safetensors.torch import save_file

import posepipe
from posepipe import pipeline as module
from posepipe.core.boxes import Detections
from posepipe.core.poses import Poses
from posepipe.core.skeleton import COCO_PERSON
from posepipe.detection.stage import DetectionSettings
from posepipe.errors import ImageError, OptionError, PosepipeError, RecipeError
from posepipe.options import (
    DEFAULT_DETECTOR,
    DEFAULT_POSE_MODEL,
    DetectionOptions,
    PoseOptions,
)
from posepipe.pipeline import Pipeline
from posepipe.pose.model import build_pose_network, load_pose_model
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
    for work in (pipeline.load, lambda: pipeline(picture()), lambda: pipeline.stream(folder)):
        with pytest.raises(OptionError, match=expected):
            work()
    assert len(pipeline.detect(picture())) == 1
    assert len(pipeline.poses(picture(), [[0, 0, 5, 5]])) == 1


@pytest.fixture
def folder(tmp_path):
    """Three images in a folder, one more in a folder inside it."""
    for n, name in enumerate(["b1.png", "b2.jpg", "b10.png", "deeper/c.png"]):
        save_picture(tmp_path / "pictures" / name, 10 + n, 20)
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
    arrays = [picture(8 + n, 6) for n in range(3)]

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
            yield picture(10 + self.asked, 6)


@pytest.mark.parametrize("method", ["stream", "stream_detections"])
@pytest.mark.parametrize("wrap", [lambda camera: camera, iter])
def test_a_live_source_gives_each_result_before_the_next_picture_is_asked_for(
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
        yield picture()
        assert first_is_there.wait(timeout=30)
        yield picture()

    count = 0
    for _ in Pipeline().stream(slow()):
        first_is_there.set()
        count += 1
    assert count == 2


@pytest.mark.parametrize("together", [2, 7])
def test_so_many_pictures_are_taken_together_as_is_asked(together, fake_stages):
    camera = Camera()
    stream = Pipeline().stream(camera, together=together)
    for n, _ in enumerate(itertools.islice(stream, 20)):
        assert camera.asked == (n // together + 1) * together
    stream.close()
    assert working_threads() == []


def test_a_list_is_worked_on_ahead_and_closing_stops_the_threads(fake_stages):
    stream = Pipeline().stream([picture()] * 50)
    next(stream)
    assert working_threads() != []
    stream.close()
    assert working_threads() == []


def test_a_camera_that_gives_nothing_is_named_and_may_be_passed_over(fake_stages):
    frames = [picture(), None, picture()]
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
        Pipeline().stream([picture()], **option)


# --- one image


def test_one_picture_gives_the_poses_that_a_stream_gives(folder, fake_stages):
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
    found = pipeline.detect(picture(20, 10))
    assert found.boxes_xyxy.tolist() == [[0, 0, 20, 10]]
    assert found.size_wh == (20, 10)
    by_hand = pipeline.poses(picture(20, 10), found.boxes_xyxy, scores=found.scores)
    whole = pipeline(picture(20, 10))
    np.testing.assert_array_equal(by_hand.keypoints, whole.keypoints)
    assert by_hand.scores.tolist() == whole.scores.tolist() == [0.25]


def test_boxes_of_ones_own_keep_their_order_and_need_no_scores(fake_stages):
    boxes = [[5, 5, 9, 9], [0, 0, 4, 4]]
    poses = Pipeline().poses(picture(), boxes)
    assert poses.boxes_xyxy.tolist() == boxes
    assert poses.box_scores.tolist() == [1, 1]
    assert len(Pipeline().poses(picture(), [])) == 0


@pytest.mark.parametrize(
    ("boxes", "scores", "message"),
    [
        ([[5, 5, 4, 9]], None, "x1 <= x2"),
        ([5, 5, 9, 9], None, r"boxes_xyxy must have shape \(N, 4\)"),
        ([[0, 0, 4, 4]], [2], r"scores must lie in \[0, 1\]"),
        ([[0, 0, 4, 4]], [0.5, 0.5], "scores"),
        ([[0, 0, 4, np.nan]], None, "finite"),
    ],
)
def test_boxes_that_are_none_are_refused(boxes, scores, message, fake_stages):
    with pytest.raises(OptionError, match=message):
        Pipeline().poses(picture(), boxes, scores=scores)


def test_a_folder_is_no_single_picture(folder, fake_stages):
    with pytest.raises(ImageError, match="is a folder, not an image"):
        Pipeline()(folder)


# --- loaded once


def test_models_are_loaded_once_and_only_those_that_are_needed(monkeypatch):
    loaded = []
    monkeypatch.setattr(module, "load_detection", lambda *_, **__: loaded.append(1) or OnePerson())
    monkeypatch.setattr(module, "load_pose", lambda *_, **__: loaded.append(2) or Centred())
    pipeline = Pipeline()
    assert loaded == []
    pipeline.poses(picture(), [[0, 0, 4, 4]])
    assert loaded == [2]
    for _ in range(3):
        pipeline(picture())
        list(pipeline.stream([picture()]))
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
        list(posepipe.detect(picture()))
    assert loaded == [1]
    list(posepipe.detect(picture(), options=DetectionOptions(min_score=0.5)))
    assert loaded == [1, 1]
    module._default_pipeline.cache_clear()


def test_paths_and_arrays_in_one_list_are_pictures_in_their_order(folder, fake_stages):
    given = [folder / "b1.png", picture(5, 5), folder / "b10.png"]
    assert names(posepipe.detect(given)) == ["b1.png", "image-2", "b10.png"]


def test_an_input_that_leads_nowhere_is_named(tmp_path, fake_stages):
    with pytest.raises(ImageError, match=r"nothing\.jpg: no such file"):
        posepipe.detect(tmp_path / "nothing.jpg")


@pytest.mark.parametrize("function", [posepipe.detect, posepipe.estimate_poses])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_unreadable_picture_ends_the_stream_or_is_left_out(
    function, workers, folder, fake_stages
):
    (folder / "b2.jpg").write_bytes(b"no image")
    stream = function(folder, workers=workers)
    with pytest.raises(ImageError, match=r"b2\.jpg is not an image"):
        list(stream)
    assert names(function(folder, workers=workers, unreadable="skip")) == ["b1.png", "b10.png"]


# --- options


def test_poses_are_rescored_unless_told_otherwise(fake_stages):
    [(_, scored)] = posepipe.estimate_poses(picture())
    assert scored.scores.tolist() == [0.25]
    plain = posepipe.PoseOptions(rescore=False)
    [(_, poses)] = posepipe.estimate_poses(picture(), options=plain)
    assert poses.scores.tolist() == [0.5]


def test_duplicates_are_left_out_if_asked_for():
    twice = Detections(1, [[0, 0, 40, 40], [0, 0, 40, 41], [100, 100, 140, 140]], [0.5, 0.9, 0.2])
    poses = Centred()._poses(twice)
    assert len(Pipeline().finish(poses)) == 3
    kept = Pipeline(pose=PoseOptions(oks_nms=0.9)).finish(poses)
    assert np.sort(kept.scores).tolist() == pytest.approx([0.1, 0.45])
    assert np.array_equal(Pipeline().finish(poses).scores, rescored(poses).scores)


def test_options_that_are_fields_of_the_recipe_and_other_changes_are_of_one_kind():
    assert DetectionOptions().recipe_changes == PoseOptions().recipe_changes == ()
    detection = DetectionOptions(nms="hard", nms_threshold=0.3, top_k=7, min_score=0.0)
    assert detection.recipe_changes == (
        *('suppression.method="hard"', "suppression.threshold=0.3"),
        *("suppression.top_k=7", "people.min_score=0.0"),
    )
    pose = PoseOptions(flip=False, blur_kernel=7, changes=("decoding.blur_kernel=9",))
    stage = Pipeline(pose=pose).pose_stage
    assert (stage.decoding.flip, stage.decoding.blur_kernel) == (False, 9)  # the last one counts
    assert load_pose_model(DEFAULT_POSE_MODEL).decoding.flip


def test_what_was_set_anew_is_on_record():
    changes = ("preprocessing.long_side=96", "suppression.sigma=0.4")
    stage = Pipeline(DetectionOptions(changes=changes))
    settings = stage.made_by("detect").settings
    assert settings["set"] == list(changes)
    assert settings["suppression"]["sigma"] == 0.4
    assert "set" not in Pipeline().made_by("detect").settings


@pytest.mark.parametrize("options", [{"nms_threshold": 2.0}, {"nms_sigma": 0.0}, {"top_k": 0}])
def test_suppression_out_of_range_is_refused(options):
    (name,) = (path.partition("=")[0] for path in DetectionOptions(**options).recipe_changes)
    with pytest.raises(RecipeError, match=f"with --set {name}"):
        Pipeline(DetectionOptions(**options)).load()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (DetectionOptions(models=("no-such-model",)), "no model 'no-such-model'; there are"),
        (DetectionOptions(models=("cpn-resnet50-256x192",)), "cpn-resnet50-256x192"),
        (PoseOptions(models=("no-such-model",)), "no model 'no-such-model'; there are"),
        (PoseOptions(models=("fasterrcnn-resnet50-fpn",)), "for detection, not for poses"),
        (PoseOptions(blur_kernel=4), "blur_kernel must be odd"),
    ],
)
def test_options_that_do_not_work_are_refused_in_one_line(options, message):
    with pytest.raises(PosepipeError, match=message) as caught:
        Pipeline(**{options_for(options): options}).load()
    assert "\n" not in str(caught.value)


def options_for(options):
    return "detection" if isinstance(options, DetectionOptions) else "pose"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DetectionOptions(models=()), "at least one model"),
        (lambda: DetectionOptions(models=("a", "b"), weights="c.pth"), "a single model"),
        (lambda: DetectionOptions(models="a"), "in a tuple; got 'a'"),
        (lambda: PoseOptions(models=()), "at least one model"),
        (lambda: PoseOptions(oks_nms=2), r"must lie in \[0, 1\], got 2"),
        (lambda: Pipeline(device="tpu"), "no device 'tpu'"),
        (lambda: Pipeline(precision="fp8"), "no precision 'fp8'"),
    ],
)
def test_what_can_be_known_before_loading_is_refused_before_loading(make, message):
    with pytest.raises(OptionError, match=message):
        make()


# --- the whole way, with the models that ship


@pytest.fixture(scope="module")
def shipped():
    """The default models, loaded once."""
    if not EXAMPLES.is_dir():
        pytest.skip("no examples/ beside the tests")
    for name in (DEFAULT_DETECTOR, DEFAULT_POSE_MODEL):
        if not (load_recipe(name).folder / "weights.safetensors").is_file():
            pytest.skip("the default models' weights are not there")
    return Pipeline(device="cpu", precision="fp32").load()


def test_several_threads_get_what_one_gets(shipped, tmp_path):
    folder = smaller_detector(tmp_path / "quick", 96)
    detection = DetectionOptions(models=(folder,), min_score=0.3)  # few people: few crops
    quick = Pipeline(detection, PoseOptions.fast(), device="cpu", precision="fp32")
    pictures = [photo_of("astronaut.jpg", 80 + 16 * n) for n in range(2)]
    alone = [quick(image) for image in pictures]
    assert any(len(poses) for poses in alone)
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(quick, pictures * 2))
    for poses, expected in zip(at_once, alone * 2, strict=True):
        np.testing.assert_array_equal(poses.keypoints, expected.keypoints)
        np.testing.assert_array_equal(poses.scores, expected.scores)


def photo_of(name, side):
    return np.asarray(Image.open(EXAMPLES / name).convert("RGB").resize((side, side)))


def test_the_shipped_models_do_without_torchvision(shipped):
    """Importing it takes seconds and 170 MB, which a first image need not wait for."""
    code = (
        "import sys; sys.modules['torchvision'] = None; import numpy, posepipe\n"
        "pipeline = posepipe.Pipeline(device='cpu', precision='fp32')\n"
        "print(len(pipeline(numpy.zeros((64, 64, 3), numpy.uint8))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_the_shipped_models_find_the_astronaut(shipped):
    [(found, poses)] = shipped.stream(EXAMPLES / "astronaut.jpg")
    assert found.file_name == "astronaut.jpg"
    width, height = found.size_wh
    best = poses.keypoints[poses.scores.argmax()]
    nose, left_shoulder, right_shoulder = best[[0, 5, 6], :2]
    assert (nose > 0).all()
    assert (nose < [width, height]).all()
    assert right_shoulder[0] < left_shoulder[0]  # she looks at us
    assert nose[1] < min(left_shoulder[1], right_shoulder[1])


def test_importing_posepipe_offers_its_public_names():
    assert set(posepipe.__all__) <= set(dir(posepipe))
    for name in posepipe.__all__:
        assert getattr(posepipe, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = posepipe.no_such_name


@pytest.mark.parametrize("name", ["astronaut.jpg", "cameraman.png", "grace_hopper.jpg"])
def test_the_default_detector_finds_the_one_person_of_each_example(name):
    detections = Pipeline(device="cpu").detect(EXAMPLES / name)
    assert len(detections) == 1
    x1, y1, x2, y2 = detections.boxes_xyxy[0]
    with Image.open(EXAMPLES / name) as image:
        width, height = image.size
    assert (x2 - x1) * (y2 - y1) > 0.4 * width * height  # they fill their images


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_another_runtime_gives_the_same_poses_and_is_recorded(
    runtime: str, tiny_recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in (runtime, "onnx"):
        pytest.importorskip(library)
    monkeypatch.setenv("POSEPIPE_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(2)
    network = build_pose_network(load_recipe(tiny_recipe))
    save_file(network.state_dict(), tiny_recipe / "weights.safetensors")
    pose = PoseOptions(models=(tiny_recipe,), flip=False)
    image = Path(__file__).parents[1] / "examples" / "astronaut.jpg"
    found = {}
    for name in ("torch", runtime):
        pipeline = Pipeline(pose=pose, device="cpu", precision="fp32", runtime=name)
        found[name] = pipeline.poses(image, [[20, 10, 480, 500]])
        settings = pipeline.made_by("pose").settings
        [recorded] = settings["runtimes"]
        assert recorded.startswith(f"{name} ")
        assert settings["precision"] == "fp32"
    np.testing.assert_allclose(found[runtime].keypoints, found["torch"].keypoints, atol=0.01)
    assert [folder.name for folder in (tmp_path / "cache" / "exported").iterdir()] == ["tiny"]


def test_an_unknown_runtime_is_refused_before_any_model_is_loaded() -> None:
    with pytest.raises(OptionError, match="no runtime 'tensorrt': use one of auto, torch"):
        Pipeline(runtime="tensorrt")
