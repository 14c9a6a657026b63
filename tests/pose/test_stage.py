"""Stage 2 as a whole: images and boxes in, poses out."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import detections

from posepipe.core.boxes import Detections
from posepipe.core.skeleton import COCO_PERSON
from posepipe.errors import ImageError, OptionError
from posepipe.io.images import ImageFile
from posepipe.networks.normalising import Normalisation
from posepipe.networks.runtimes.base import Port, RuntimeNetwork
from posepipe.pose.stage import PoseStage

SKIN = [0, 1, 2]  # what `ColourNetwork` calls the red, the green and the blue keypoint


def image_file(pixels, image_id=1) -> ImageFile:
    return ImageFile(image_id, Path("a.png"), "a.png", pixels)


def noise(seed=0, width=160, height=120):
    """Colour noise in patches of 8 pixels, which survive resampling."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return coarse.repeat(8, axis=0).repeat(8, axis=1)


def poses_of(stage, *items):
    return stage([stage.prepare(item) for item in items])


@pytest.fixture
def stage(colour_network, make_model):
    """Finds the reddest, greenest and bluest cell of every crop."""
    return PoseStage([make_model(colour_network)])


@pytest.fixture
def cpn_stage(random_cpn, make_model):
    """A small CPN with random weights, all of test time switched on."""
    return PoseStage([make_model(random_cpn, decoding={"flip": True, "blur_kernel": 5})])


# --- where things are


@pytest.mark.parametrize("box", [(20, 10, 84, 74), (0, 0, 128, 128), (40, 30, 72, 46)])
def test_a_keypoint_is_found_where_its_colour_is(stage, box):
    pixels = np.zeros((120, 160, 3), np.uint8)
    spots = {0: (50, 36), 1: (62, 42), 2: (66, 34)}
    for channel, (x, y) in spots.items():
        pixels[y - 1 : y + 2, x - 1 : x + 2, channel] = 255
    [poses] = poses_of(stage, (image_file(pixels), detections(boxes_xyxy=[box])))
    # A cell is 4 pixels of the crop wide: half of one, and the quarter offset, may be missed.
    cell = 4 * (box[2] - box[0]) / 64
    for k, spot in spots.items():
        assert np.abs(poses.keypoints[0, k, :2] - spot).max() <= 0.75 * cell


def test_boxes_and_scores_are_handed_on(stage):
    found = detections(5, [[20, 10, 84, 74], [0, 0, 64, 64]], [0.75, 0.5])
    [poses] = poses_of(stage, (image_file(noise(), 5), found))
    assert poses.image_id == 5
    assert poses.keypoints.shape == (2, 17, 3)
    assert np.array_equal(poses.boxes_xyxy, found.boxes_xyxy)
    assert poses.scores.tolist() == poses.box_scores.tolist() == [0.75, 0.5]


def test_a_mirrored_image_gives_mirrored_poses(cpn_stage):
    width = 160
    pixels, box = noise(3, width), np.array([30, 20, 94, 84])
    mirrored_box = [width - box[2], box[1], width - box[0], box[3]]
    [plain], [mirrored] = (
        poses_of(cpn_stage, (image_file(image), detections(boxes_xyxy=[a_box])))
        for image, a_box in ((pixels, box), (pixels[:, ::-1].copy(), mirrored_box))
    )
    back = mirrored.keypoints[0, list(COCO_PERSON.mirrored)]
    back[:, 0] = width - 1 - back[:, 0]
    assert back == pytest.approx(plain.keypoints[0], abs=1e-3)


# --- batches


def test_no_images_give_no_poses_and_nobody_is_an_answer(cpn_stage):
    [poses] = poses_of(cpn_stage, (image_file(noise()), Detections.none(4)))
    assert poses.image_id == 4
    assert poses.keypoints.shape == (0, 17, 3)
    assert poses.boxes_xyxy.shape == (0, 4)


def test_an_image_with_nobody_is_not_even_read(stage):
    missing = ImageFile(9, Path("no-such-file.png"), "no-such-file.png")
    [poses] = poses_of(stage, (missing, Detections.none(9)))
    assert len(poses) == 0


@pytest.mark.parametrize("batch_size", [1, 2, 3, 32])
def test_people_alone_and_in_batches_of_any_size_get_the_same_poses(
    batch_size, random_cpn, make_model
):
    boxes = [[], [[10, 20, 74, 84]], [[0, 0, 50, 90], [60, 30, 150, 100], [5, 5, 5, 5]], []]
    items = [(image_file(noise(n), 7 - n), detections(7 - n, some)) for n, some in enumerate(boxes)]
    model = make_model(random_cpn, decoding={"flip": True, "blur_kernel": 5})
    together = poses_of(PoseStage([model], batch_size=batch_size), *items)
    assert [poses.image_id for poses in together] == [7, 6, 5, 4]
    assert [len(poses) for poses in together] == [0, 1, 3, 0]
    for item, poses in zip(items, together, strict=True):
        [alone] = poses_of(PoseStage([model]), item)
        assert poses.keypoints == pytest.approx(alone.keypoints, abs=1e-3)
    people = items[2][1]
    for n in range(3):
        one = Detections(5, people.boxes_xyxy[n : n + 1], people.scores[n : n + 1])
        [alone] = poses_of(PoseStage([model]), (items[2][0], one))
        assert alone.keypoints[0] == pytest.approx(together[2].keypoints[n], abs=1e-3)


@pytest.mark.parametrize("flip", [True, False])
def test_compiled_networks_give_the_same_poses(flip, random_cpn, make_model, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    model = make_model(random_cpn, decoding={"flip": flip, "blur_kernel": 5})
    stages = [PoseStage([model], batch_size=3) for _ in range(2)]
    stages[0].compile()
    assert stages[0].models[0].runtime.endswith(", compiled")
    boxes = [[10 * n, 20, 10 * n + 60, 84] for n in range(8)]
    item = image_file(noise()), detections(1, boxes)
    [compiled], [plain] = (poses_of(stage, item) for stage in stages)
    assert compiled.keypoints == pytest.approx(plain.keypoints, abs=1e-3)
    assert [stage.starts(8) for stage in stages] == [[0, 3, 6, 8], [0, 3, 8]]


def test_what_another_runtime_runs_is_not_compiled(make_model):
    class Other(RuntimeNetwork):
        def __init__(self):
            super().__init__("a", version="b", inputs=[Port("", (1, 3, 64, 64))], outputs=["c"])

        def _start(self, name, parts, *, alone):
            raise NotImplementedError

    with pytest.raises(OptionError, match="--compile is for --runtime torch"):
        PoseStage([make_model(Other())]).compile()


class Background(RuntimeNetwork):
    """Another library that runs a torch network, when its outputs are asked for.

    Attributes:
        at_work: how many calls of `start` have not been asked for their outputs.
        most: the most of them there have been.
        alone: of each call.
    """

    ahead = 2

    def __init__(self, network):
        super().__init__(
            "a",
            version="b",
            inputs=[Port("", (None, 3, 64, 64))],
            outputs=["c"],
            normalisation=Normalisation((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
        )
        self._network = network
        self.at_work, self.most, self.alone = 0, 0, []

    def _start(self, name, parts, *, alone):
        def outputs(part):
            self.at_work -= 1
            return [self._network(torch.from_numpy(part)).numpy()]

        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.alone.append(alone)
        return [partial(outputs, part) for part in parts]


@pytest.mark.parametrize("people", [1, 3, 6, 9])
def test_a_network_that_computes_in_the_background_gives_the_same_poses(
    people, colour_network, make_model
):
    item = (
        image_file(noise()),
        detections(1, [[10 * n, 20, 10 * n + 60, 84] for n in range(people)]),
    )
    network = Background(colour_network)
    stage = PoseStage([make_model(network)], batch_size=2)
    [wanted] = poses_of(PoseStage([make_model(colour_network)], batch_size=2), item)
    finish = stage.start([stage.prepare(item)])
    passes = max(1, people // 2)  # the last one takes along who is left
    assert (network.most, network.at_work) == (min(passes, 3), min(passes, 2))
    for [found] in (finish(), poses_of(stage, item)):
        assert np.array_equal(found.keypoints, wanted.keypoints)
    assert network.at_work == 0
    assert network.alone[0] is False
    assert network.alone[-1] == (passes == 1)  # one pass, and nothing else


@pytest.mark.parametrize(
    ("people", "sizes"), [(1, [1]), (2, [2]), (3, [3]), (4, [2, 2]), (7, [2, 2, 3])]
)
def test_on_a_cpu_no_pass_is_smaller_than_it_has_to_be(people, sizes, colour_network, make_model):
    given = []
    colour_network.register_forward_pre_hook(lambda _, images: given.append(len(images[0])))
    boxes = [[10 * n, 20, 10 * n + 60, 84] for n in range(people)]
    stage = PoseStage([make_model(colour_network, decoding={"flip": False})], batch_size=2)
    poses_of(stage, (image_file(noise()), detections(1, boxes)))
    assert given == sizes


@pytest.mark.parametrize("flip", [True, False])
def test_mirror_images_count_in_a_pass_on_a_cpu(flip, colour_network, make_model):
    stage = PoseStage([make_model(colour_network, decoding={"flip": flip})])
    assert stage.batch_size == (4 if flip else 8)


def test_an_image_weighs_as_much_as_it_has_people(stage):
    boxes = [[10, 20, 74, 84], [0, 0, 50, 90]]
    weights = [
        stage.weight(stage.prepare((image_file(noise()), detections(boxes_xyxy=boxes[:n]))))
        for n in range(3)
    ]
    assert weights == [0, 1, 2]


def test_an_image_that_cannot_be_read_fails_when_it_is_prepared(stage, tmp_path):
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"\xff\xd8\xff no image")
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        stage.prepare((ImageFile(1, path, "broken.jpg"), detections()))


# --- switches


@pytest.mark.parametrize(
    "changed", [{"flip": False}, {"blur_kernel": 15}, {"quarter_offset": False}]
)
def test_every_switch_of_the_decoding_has_a_say_in_the_poses(changed, random_cpn, make_model):
    usual = {"flip": True, "blur_kernel": 5, "quarter_offset": True}
    item = (image_file(noise()), detections(boxes_xyxy=[[10, 20, 74, 84]]))
    [ours], [others] = (
        poses_of(PoseStage([make_model(random_cpn, decoding=decoding)]), item)
        for decoding in (usual, usual | changed)
    )
    assert not np.allclose(ours.keypoints, others.keypoints)


# --- several models


def test_a_model_averaged_with_itself_is_itself(random_cpn, make_model):
    model = make_model(random_cpn)
    item = (image_file(noise()), detections(boxes_xyxy=[[10, 20, 74, 84]]))
    [one], [two] = (poses_of(PoseStage(models), item) for models in ([model], [model] * 2))
    assert two.keypoints == pytest.approx(one.keypoints, abs=1e-3)


def test_models_of_other_amplitudes_and_sizes_have_an_equal_say(colour_network, make_model):
    class Weaker(type(colour_network)):
        """Sees everything at 6 tenths, in units of 255."""

        def forward(self, images):
            return 255 * 0.6 * super().forward(images)

    pixels = np.full((120, 160, 3), 255, np.uint8)
    models = [
        make_model(colour_network),
        make_model(Weaker(), decoding={"amplitude": 255.0}, input_size_wh=[96, 96]),
    ]
    item = (image_file(pixels), detections(boxes_xyxy=[[30, 20, 94, 84]]))
    [poses] = poses_of(PoseStage(models), item)
    assert poses.keypoints[0, SKIN, 2] == pytest.approx(np.full(3, 0.8), abs=1e-5)


def test_every_model_gets_crops_as_its_own_recipe_says(colour_network, make_model):
    # Both look at a box that lies outside, in crops of one size but of two colours.
    models = [
        make_model(colour_network, fill=fill) for fill in ([255, 255, 255], [0, 0, 0], [0, 0, 0])
    ]
    item = (image_file(noise()), detections(boxes_xyxy=[[500, 500, 564, 564]]))
    [poses] = poses_of(PoseStage(models), item)
    assert poses.keypoints[0, SKIN, 2] == pytest.approx(np.full(3, 1 / 3), abs=1e-5)


def test_a_stage_needs_a_model():
    with pytest.raises(OptionError, match="at least one model"):
        PoseStage([])


@pytest.mark.parametrize("batch_size", [0, -4])
def test_a_batch_needs_room(batch_size, colour_network, make_model):
    with pytest.raises(OptionError, match=f"at least 1, got {batch_size}"):
        PoseStage([make_model(colour_network)], batch_size=batch_size)


@pytest.mark.parametrize(
    "change",
    [{"input_size_wh": [64, 96]}, {"margins_xy": [0.1, 0.1]}, {"window": "whole_pixels"}],
)
def test_models_with_other_windows_cannot_be_averaged(change, colour_network, make_model):
    models = [make_model(colour_network), make_model(colour_network, "wider", **change)]
    with pytest.raises(OptionError, match="'small' and 'wider' cannot be averaged"):
        PoseStage(models)


def test_models_of_other_keypoints_cannot_be_averaged(colour_network, make_model):
    model = make_model(colour_network)
    other = dataclasses.replace(
        model, name="dogs", skeleton=dataclasses.replace(COCO_PERSON, name="dog")
    )
    with pytest.raises(OptionError, match="'small' and 'dogs' cannot be averaged"):
        PoseStage([model, other])
