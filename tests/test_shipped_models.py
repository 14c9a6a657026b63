"""The whole way from images to poses, with the models that ship."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import smaller_detector
from PIL import Image
from safetensors.torch import save_file

from posepipe.detection.loading import load_detector
from posepipe.networks.devices import precision_name, resolve_precision
from posepipe.options import (
    DEFAULT_DETECTOR,
    DEFAULT_POSE_MODEL,
    DetectionOptions,
    PoseOptions,
)
from posepipe.pipeline import Pipeline
from posepipe.pose.loading import load_pose_stage
from posepipe.pose.model import build_pose_network
from posepipe.zoo.recipe import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"


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
    images = [photo_of("astronaut.jpg", 80 + 16 * n) for n in range(2)]
    alone = [quick(image) for image in images]
    assert any(len(poses) for poses in alone)
    with ThreadPoolExecutor(4) as pool:
        at_once = list(pool.map(quick, images * 2))
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


@pytest.mark.parametrize("name", ["astronaut.jpg", "cameraman.png", "grace_hopper.jpg"])
def test_the_default_detector_finds_the_one_person_of_each_example(name):
    detections = Pipeline(device="cpu").detect(EXAMPLES / name)
    assert len(detections) == 1
    x1, y1, x2, y2 = detections.boxes_xyxy[0]
    with Image.open(EXAMPLES / name) as image:
        width, height = image.size
    assert (x2 - x1) * (y2 - y1) > 0.4 * width * height  # they fill their images


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")
@pytest.mark.parametrize("precision", ["fp32", "auto"])
def test_a_gpu_finds_what_the_cpu_finds(precision, shipped):
    on_gpu = Pipeline(device="cuda", precision=precision)
    for name in ("astronaut.jpg", "cameraman.png", "grace_hopper.jpg"):
        expected, poses = (one(EXAMPLES / name) for one in (shipped, on_gpu))
        assert len(poses) == len(expected) == 1
        np.testing.assert_allclose(poses.boxes_xyxy, expected.boxes_xyxy, atol=2)
        sure = expected.keypoints[..., 2] > 0.5
        assert sure.sum() > 4
        distances = np.abs(poses.keypoints - expected.keypoints)[sure][:, :2].max(axis=1)
        assert np.median(distances) < 2


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


def test_in_torch_the_default_detector_finds_the_same_on_cpus_with_and_without_bf16():
    on_cpu = {"device": "cpu", "runtime": "torch"}
    by_machine = precision_name(resolve_precision("auto", torch.device("cpu")))
    precisions = [
        load_detector(DEFAULT_DETECTOR, **on_cpu).origin.precision,
        load_detector(DEFAULT_DETECTOR, precision="bf16", **on_cpu).origin.precision,
        load_detector(
            DEFAULT_DETECTOR, changes=["detector.torch_precision=auto"], **on_cpu
        ).origin.precision,
    ]
    assert precisions == ["fp32", "bf16", by_machine]


def test_in_bf16_the_default_network_s_first_and_last_layers_stay_in_float32():
    stages = {
        precision: load_pose_stage(
            [DEFAULT_POSE_MODEL], device="cpu", precision=precision, runtime="torch"
        )
        for precision in ("fp32", "bf16")
    }
    [model] = stages["bf16"].models
    exact = {
        name
        for name, layer in model.network.named_modules()
        if isinstance(layer, torch.nn.Conv2d) and layer.weight.dtype == torch.float32
    }
    of_stem = {name for name in exact if name.startswith("backbone.stages.0.")}
    assert of_stem
    assert exact > of_stem
    assert all("head" in name for name in exact - of_stem)
    crop = torch.tensor(photo_of("astronaut.jpg", 256)[None, :, 32:224])
    expected, found = (
        stages[precision].models[0].heatmaps(crop, flip=False) for precision in ("fp32", "bf16")
    )
    assert 0 < (found - expected).square().mean().sqrt() < 0.003
