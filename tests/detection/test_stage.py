from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from posepipe.core.suppression import Suppression
from posepipe.detection.candidates import Candidates, Origin
from posepipe.detection.loading import (
    SuppressionTable,
    detector_recipe,
    load_detector,
    recipe_suppression,
)
from posepipe.detection.stage import DetectionSettings, DetectionStage, choose_people
from posepipe.errors import OptionError, RecipeError, WeightsError
from posepipe.io.images import ImageFile
from posepipe.zoo.recipe import Recipe

NO_NMS = Suppression(method="none", min_score=0.0)


class BrightSpotDetector:
    """Finds the one bright rectangle of an image and calls it a person."""

    origin = Origin("bright spots", "a test", "")

    def __init__(self, score: float = 0.9, label: int = 1) -> None:
        self.score, self.label = score, label

    def prepare(self, image: np.ndarray, *, scale: float = 1.0) -> tuple[np.ndarray, float]:
        size = round(1 / scale)
        return image[::size, ::size], scale

    def __call__(self, batch: Sequence[tuple[np.ndarray, float]]) -> list[Candidates]:
        return [self._find(image, scale) for image, scale in batch]

    def _find(self, image: np.ndarray, scale: float) -> Candidates:
        rows, columns = np.nonzero(image[:, :, 0] > 128)
        if not len(rows):
            return Candidates.none()
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Candidates(np.array([box]) / scale, [self.score], [self.label])


def dark(width: int, height: int, image_id: int = 1, *, spot=None) -> ImageFile:
    pixels = np.zeros((height, width, 3), np.uint8)
    if spot is not None:
        x1, y1, x2, y2 = spot
        pixels[y1:y2, x1:x2] = 255
    return ImageFile(image_id, Path("spot.png"), "spot.png", pixels)


def run(stage: DetectionStage, images: Sequence[ImageFile]):
    return stage([stage.prepare(image) for image in images])


def test_images_keep_their_order_and_nobody_is_an_answer() -> None:
    stage = DetectionStage([BrightSpotDetector()])
    images = [dark(40, 30, 7), dark(40, 30, 3, spot=(4, 6, 20, 24)), dark(20, 50, 5)]
    found = run(stage, images)
    assert [detections.image_id for detections in found] == [7, 3, 5]
    assert [len(detections) for detections in found] == [0, 1, 0]
    assert found[1].boxes_xyxy.tolist() == [[4, 6, 20, 24]]
    assert stage([]) == []


@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (0.5, 1.0)])
@pytest.mark.parametrize("flip", [False, True])
def test_every_view_finds_the_same_box_in_the_same_place(scales, flip: bool) -> None:
    settings = DetectionSettings(suppression=NO_NMS, scales=scales, flip=flip)
    stage = DetectionStage([BrightSpotDetector()], settings)
    [people] = run(stage, [dark(40, 30, spot=(4, 6, 20, 24))])
    assert people.boxes_xyxy.tolist() == [[4, 6, 20, 24]] * len(scales) * (2 if flip else 1)


def test_several_detectors_pool_their_boxes_before_nms() -> None:
    detectors = [BrightSpotDetector(0.6), BrightSpotDetector(0.9)]
    image = dark(40, 30, spot=(4, 6, 20, 24))
    [pool] = run(DetectionStage(detectors, DetectionSettings(suppression=NO_NMS)), [image])
    assert pool.scores.tolist() == pytest.approx([0.9, 0.6])
    hard = DetectionSettings(suppression=Suppression(method="hard"))
    [merged] = run(DetectionStage(detectors, hard), [image])
    assert merged.scores.tolist() == pytest.approx([0.9])
    assert len(DetectionStage(detectors).origins) == 2


def test_persons_alone_stay() -> None:
    stage = DetectionStage([BrightSpotDetector(label=18)])
    assert len(run(stage, [dark(40, 30, spot=(4, 6, 20, 24))])[0]) == 0


def test_the_top_100_is_taken_over_all_classes_before_the_persons() -> None:
    count = 150
    boxes = [[10 * i, 0, 10 * i + 8, 8] for i in range(count)]
    classes = [1 if i % 3 == 0 else 2 for i in range(count)]
    scores = np.linspace(0.9, 0.1, count)
    people = choose_people(Candidates(boxes, scores, classes), 1, (2000, 10))
    assert len(people) == 34  # every third of the first hundred, not of all
    assert people.scores.min() >= np.float32(scores[99])


def test_the_lowest_score_applies_after_soft_nms() -> None:
    overlapping = Candidates([[0, 0, 10, 10], [0, 0, 10, 9]], [0.9, 0.8], [1, 1])
    soft = choose_people(overlapping, 1, (20, 20))
    assert len(soft) == 2
    assert soft.scores[1] < 0.3
    floor = DetectionSettings(min_score=0.3)
    assert len(choose_people(overlapping, 1, (20, 20), floor)) == 1


def test_boxes_are_cut_to_the_image_and_those_outside_dropped() -> None:
    candidates = Candidates(
        [[-5, -5, 10, 50], [30, 5, 40, 9], [5, 5, 5, 9]], [0.9, 0.8, 0.7], [1, 1, 1]
    )
    people = choose_people(candidates, 1, (20, 20))
    assert people.boxes_xyxy.tolist() == [[0, 0, 10, 20]]


def test_a_batch_of_one_and_a_batch_of_many_find_the_same(model_folder: Recipe, an_image) -> None:
    settings = DetectionSettings(flip=True, scales=(0.5, 1.0), batch_size=8)
    detector = load_detector(model_folder, device="cpu", precision="fp32")
    stage = DetectionStage([detector], settings)
    images = [
        ImageFile(i, Path("a"), "a", an_image(*size, seed=i))
        for i, size in enumerate([(150, 100), (80, 160), (150, 100)])
    ]
    for together, image in zip(run(stage, images), images, strict=True):
        [alone] = run(stage, [image])
        assert len(alone) > 5
        count = 5  # further down, scores that are nearly equal may change places
        np.testing.assert_allclose(together.scores[:count], alone.scores[:count], atol=1e-4)
        np.testing.assert_allclose(together.boxes_xyxy[:count], alone.boxes_xyxy[:count], atol=0.05)


def test_a_model_folder_loads_with_its_origin_and_suppression(model_folder: Recipe) -> None:
    detector = load_detector(model_folder.folder, device="cpu")
    assert detector.origin.model == "small-detector"
    assert detector.origin.backend.startswith("torchvision ")
    assert len(detector.origin.weights_sha256) == 64
    assert recipe_suppression(model_folder) == Suppression()


def test_the_tables_defaults_are_those_of_the_core() -> None:
    assert SuppressionTable().settings == Suppression()


def test_weights_of_another_network_are_refused(model_folder: Recipe) -> None:
    recipe = (model_folder.folder / "recipe.toml").read_text()
    (model_folder.folder / "recipe.toml").write_text(recipe.replace("classes = 5", "classes = 9"))
    with pytest.raises(WeightsError, match=r"another network: 'roi_heads\.box_predictor"):
        load_detector(model_folder.folder, device="cpu")


def test_a_recipe_of_another_stage_is_refused(model_folder: Recipe) -> None:
    recipe = (model_folder.folder / "recipe.toml").read_text()
    (model_folder.folder / "recipe.toml").write_text(recipe.replace('"detection"', '"pose"'))
    with pytest.raises(RecipeError, match="pose stage"):
        detector_recipe(model_folder.folder)


@pytest.mark.parametrize("table", ["suppression", "preprocessing", "candidates", "detector"])
def test_an_unknown_field_of_a_recipe_is_named(model_folder: Recipe, table: str) -> None:
    tables = {**model_folder.tables, table: {"colour": 1}}
    wrong = Recipe(model_folder.name, model_folder.folder, tables)
    read = recipe_suppression if table == "suppression" else load_detector
    with pytest.raises(RecipeError, match=rf"recipe\.toml, \[{table}\]: .*colour"):
        read(wrong)


@pytest.mark.parametrize(
    "settings",
    [{"scales": ()}, {"scales": (0.0,)}, {"min_score": 2.0}, {"batch_size": 0}],
)
def test_settings_out_of_range_are_refused(settings) -> None:
    with pytest.raises(OptionError):
        DetectionSettings(**settings)


def test_a_stage_without_detectors_is_refused() -> None:
    with pytest.raises(OptionError, match="at least one model"):
        DetectionStage([])


def test_an_image_that_waits_says_what_its_views_hold(model_folder: Recipe, an_image) -> None:
    settings = DetectionSettings(scales=(1.0, 0.5))
    stage = DetectionStage([load_detector(model_folder)], settings)
    ready = stage.prepare(ImageFile(1, None, "", an_image(96, 64)))
    assert ready.nbytes == sum(view.pixels.nbytes for view in ready.views) > 0
