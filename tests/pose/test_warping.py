"""Crops made on the device: OpenCV's, within the interpolation's error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from builders import detections

from posepipe.core.boxes import Detections
from posepipe.io.images import ImageFile
from posepipe.pose import warping
from posepipe.pose.crops import PreprocessingTable, cut_crops
from posepipe.pose.stage import PoseStage
from posepipe.pose.warping import Windows, cut_windows, joined

EXAMPLES = Path(__file__).parents[2] / "examples"
TABLE = PreprocessingTable(input_size_wh=(96, 128))
CPU = torch.device("cpu")
NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=[pytest.mark.gpu, NO_GPU])]


def photo() -> np.ndarray:
    return ImageFile(1, EXAMPLES / "astronaut.jpg", "astronaut.jpg").read()


def boxes_in(image: np.ndarray) -> dict[str, list[float]]:
    height, width = image.shape[:2]
    return {
        "enlarged": [200, 100, 240, 160],
        "tiny": [300, 200, 302, 203],
        "of no area": [300, 200, 300, 200],
        "reduced": [5, 5, width - 5, height - 5],
        "over the left border": [-60, 100, 90, 300],
        "over the lower right corner": [width - 40, height - 90, width + 80, height + 200],
        "larger than the image": [-300, -400, width + 500, height + 300],
        "huge": [-4000, -6000, 5000, 6000],
        "outside": [width + 500, 10, width + 600, 200],
    }


def made(*windows: Windows, device: torch.device = CPU, table=TABLE) -> np.ndarray:
    people = joined(windows, table, device)
    return people.cut(0, len(people.sources.plans)).cpu().numpy()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("antialias", [True, False])
def test_the_device_makes_the_crops_that_opencv_makes(device, antialias) -> None:
    image = photo()
    boxes = boxes_in(image)
    table = PreprocessingTable(input_size_wh=(96, 128), antialias=antialias)
    found = detections(1, list(boxes.values()))
    windows, crops = cut_windows(image, found, table), cut_crops(image, found, table)
    people = joined([windows], table, CPU)
    assert np.array_equal(people.to_image, crops.to_image)
    plans = people.sources.plans
    assert (plans.reduced_wh < plans.sizes_wh).any() == antialias
    # Most versions of OpenCV round places to 1/32 of a pixel: 8 levels at an edge of 255.
    difference = np.abs(made(windows, device=device, table=table).astype(int) - crops.pixels)
    for name, of_crop in zip(boxes, difference, strict=True):
        assert of_crop.max() <= 8, name
        assert of_crop.mean() < 0.3, name


def test_of_a_large_image_what_shows_nobody_stays_here(monkeypatch) -> None:
    image, few = photo(), detections(1, [[200, 100, 240, 160], [-60, 100, 90, 300]])
    crowd = detections(1, list(boxes_in(image).values()))
    whole = cut_windows(image, few, TABLE)
    assert len(whole.pixels) == image.size // 3
    monkeypatch.setattr(warping, "_LARGE", image.size // 3 - 1)
    packed = cut_windows(image, few, TABLE)
    assert 0 < len(packed.pixels) < image.size / 3 / 4
    assert np.array_equal(made(packed), made(whole))
    assert len(cut_windows(image, crowd, TABLE).pixels) == image.size // 3
    nobody = cut_windows(image, Detections.none(1), TABLE)
    assert len(nobody.pixels) == 0
    both = made(whole, nobody, packed, whole)
    assert np.array_equal(both, np.concatenate([made(whole)] * 3))


def test_the_people_of_several_images_are_cut_out_together() -> None:
    images = [photo(), photo()[::-1, :300].copy(), photo()[:90, ::2].copy(), photo()[:, ::-1]]
    found = [detections(1, list(boxes_in(image).values())[n:]) for n, image in enumerate(images)]
    found[2] = Detections.none(1)
    parts = [cut_windows(*one, TABLE) for one in zip(images, found, strict=True)]
    together = made(*parts)
    assert np.array_equal(together, np.concatenate([made(part) for part in parts]))
    assert len(made(parts[2])) == 0
    assert np.array_equal(joined(parts, TABLE, CPU).cut(3, 5), together[3:5])


def test_windows_are_averaged_down_in_groups_that_memory_has_room_for(monkeypatch) -> None:
    image = photo()
    few = [box for name, box in boxes_in(image).items() if name != "outside"]
    windows = cut_windows(image, detections(1, few), TABLE)
    wanted = made(windows)
    monkeypatch.setattr(warping, "_MOST_AVERAGED", 1)
    assert np.array_equal(made(windows), wanted)


def test_a_stage_gives_the_poses_of_the_other_engine(random_cpn, make_model) -> None:
    model = make_model(random_cpn, decoding={"flip": True, "blur_kernel": 5})
    image = photo()
    items = [
        (ImageFile(1, Path("a"), "a", image), detections(1, list(boxes_in(image).values())[:6])),
        (ImageFile(2, Path("b"), "b", image), Detections.none(2)),
        (ImageFile(3, Path("c"), "c", image[:200].copy()), detections(3, [[100, 20, 200, 150]])),
    ]
    by_cpu, by_device = (PoseStage([model], batch_size=3, engine=one) for one in ("cpu", "device"))
    for one, other in zip(
        *([stage([stage.prepare(item) for item in items])] for stage in (by_cpu, by_device)),
        strict=True,
    ):
        for poses, same in zip(one, other, strict=True):
            assert poses.image_id == same.image_id
            assert poses.keypoints[..., 2] == pytest.approx(same.keypoints[..., 2], abs=0.05)


def test_windows_of_whole_pixels_are_cut_by_the_cpu(random_cpn, make_model) -> None:
    model = make_model(random_cpn, window="whole_pixels")
    stage = PoseStage([model], engine="device")
    [crops] = stage.prepare(
        (ImageFile(1, Path("a"), "a", photo()), detections(1, [[9, 9, 90, 90]]))
    ).crops.values()
    assert not isinstance(crops, Windows)
