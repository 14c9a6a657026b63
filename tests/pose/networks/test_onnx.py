"""ONNX networks, made here: they find a red, a green or a blue dot, whose place is known."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from posepipe.core.boxes import Detections
from posepipe.errors import MissingDependencyError, OptionError, RecipeError, WeightsError
from posepipe.io.images import ImageFile
from posepipe.pose.loading import load_pose_stage
from posepipe.pose.model import build_pose_network
from posepipe.zoo.recipe import load_recipe

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
RUNTIMES = ["onnxruntime", "openvino"] if find_spec("openvino") else ["onnxruntime"]

WIDTH, HEIGHT = 64, 96
RECIPE = """
[model]
stage = "pose"
summary = "a test"

[skeleton]
name = "dots"
category = "dots"
keypoints = ["left red", "right green", "blue"]
mirror_pairs = []

[network]
backend = "onnx"
{network}

[preprocessing]
input_size_wh = [64, 96]
margins_xy = [0.1, 0.1]
fill = [0, 0, 0]
mean = [0, 0, 0]
std = [255, 255, 255]
antialias = false

[decoding]
{decoding}
"""
CODECS = {
    "heatmaps": 'codec = "argmax"\nstride = 2',
    "dark": 'codec = "dark"\nstride = 2\nblur_kernel = 3',
    "simcc": 'codec = "simcc"\nbins_per_pixel = 2',
}


def graph(kind: str, batch: int | str = "batch", size: tuple[int, int] = (HEIGHT, WIDTH)) -> bytes:
    """An ONNX network whose K-th response is how strong the K-th colour is."""
    helper, types = onnx.helper, onnx.TensorProto
    image = helper.make_tensor_value_info("image", types.FLOAT, [batch, 3, *size])
    if kind in ("heatmaps", "dark"):
        nodes = [
            helper.make_node(
                "AveragePool", ["image"], ["maps"], kernel_shape=[2, 2], strides=[2, 2]
            )
        ]
        names, constants = ["maps"], []
    else:
        finer = [np.repeat(np.eye(n, dtype=np.float32), 2, axis=1) for n in (size[1], size[0])]
        for matrix in finer:
            matrix[:, 1::2] *= 0.9  # the even bin is the pixel's own place
        names = ["simcc_x", "simcc_y"]
        constants = [
            onnx.numpy_helper.from_array(matrix, f"m_{name}")
            for matrix, name in zip(finer, names, strict=True)
        ]
        nodes = []
        for name, axis in zip(names, (2, 3), strict=True):
            nodes += [
                helper.make_node("ReduceMax", ["image"], [f"line_{name}"], axes=[axis], keepdims=0),
                helper.make_node("MatMul", [f"line_{name}", f"m_{name}"], [name]),
            ]
    outputs = [helper.make_tensor_value_info(name, types.FLOAT, None) for name in names]
    made = helper.make_graph(nodes, "dots", [image], outputs, constants)
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(made, opset_imports=opsets, ir_version=8).SerializeToString()


@pytest.fixture
def model(tmp_path: Path) -> Callable[..., Path]:
    """Makes a model folder of an ONNX network."""

    def make(kind: str, content: bytes | None = None, *, network: str = "") -> Path:
        folder = tmp_path / f"dots-{kind}"
        folder.mkdir(exist_ok=True)
        text = RECIPE.format(network=network, decoding=CODECS[kind])
        (folder / "recipe.toml").write_text(text)
        (folder / "weights.onnx").write_bytes(graph(kind) if content is None else content)
        return folder

    return make


DOTS = np.array([[[40, 60], [70, 90], [52, 110]], [[95, 60], [100, 75], [110, 125]]])


NOBODY = Detections.none(1)


def an_image() -> tuple[ImageFile, Detections]:
    """Two boxes as large as the crop, each with a red, a green and a blue dot of 2 x 2 pixels."""
    image = np.zeros((200, 200, 3), np.uint8)
    for person in DOTS:
        for colour, (x, y) in enumerate(person):
            image[y - 1 : y + 2, x - 1 : x + 2, colour] = 180
            image[y, x, colour] = 255
    boxes = np.array([[30.0, 50, 80, 120], [85, 50, 130, 130]], np.float32)
    item = ImageFile(1, Path("dots.png"), "dots.png", pixels=image)
    return item, Detections(1, boxes, np.array([0.9, 0.8], np.float32))


@pytest.mark.parametrize("kind", CODECS)
@pytest.mark.parametrize("batch", ["batch", 1, 3])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_dots_are_found_where_they_are(kind, batch, runtime, model) -> None:
    stage = load_pose_stage([model(kind, graph(kind, batch))], device="cpu", runtime=runtime)
    item, people = an_image()
    [poses, nobody] = stage([stage.prepare((item, people)), stage.prepare((item, NOBODY))])
    np.testing.assert_allclose(poses.keypoints[..., :2], DOTS, atol=1.5)
    assert poses.keypoints[..., 2].min() > 0.3
    assert poses.skeleton.name == "dots"
    assert nobody.keypoints.shape == (0, 3, 3)


def test_an_archive_with_one_network_in_it_will_do(model, tmp_path: Path) -> None:
    folder = model("simcc")
    packed = tmp_path / "rtm.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.write(folder / "weights.onnx", "20230504/end2end.onnx")
        archive.writestr("20230504/detail.json", "{}")
    loaded = load_pose_stage([folder], weights=packed, device="cpu")
    assert len(loaded.models[0].weights_sha256) == 64
    with zipfile.ZipFile(packed, "a") as archive:
        archive.write(folder / "weights.onnx", "another.onnx")
    with pytest.raises(WeightsError, match=r"has 2 \.onnx files in it"):
        load_pose_stage([folder], weights=packed, device="cpu")


def test_two_of_a_kind_are_averaged_and_others_are_not(model) -> None:
    one, other = model("simcc"), model("heatmaps")
    stage = load_pose_stage([one, one], device="cpu")
    [poses] = stage([stage.prepare(an_image())])
    np.testing.assert_allclose(poses.keypoints[..., :2], DOTS, atol=1.5)
    with pytest.raises(OptionError, match="cannot be averaged: they differ in codec"):
        load_pose_stage([one, other], device="cpu")


@pytest.mark.parametrize(
    ("kind", "content", "network", "says"),
    [
        ("simcc", b"no graph", "", r"cannot be read as an? (ONNX )?network"),
        ("simcc", b"", "", r"cannot be read as an? (ONNX )?network"),
        ("simcc", None, 'outputs = ["heat"]', "no output 'heat'; it has simcc_x, simcc_y"),
        ("simcc", None, 'outputs = ["simcc_x"]', "vectors .* for x and y are expected"),
        ("heatmaps", graph("simcc"), "", "heatmaps .* are expected"),
        ("simcc", graph("simcc", "b", (64, 64)), "", r"takes images \[3, 64, 64\]"),
    ],
)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_file_that_does_not_fit_its_recipe_is_one_line(
    kind, content, network, says, runtime, model
) -> None:
    folder = model(kind, content, network=network)

    def found() -> object:
        stage = load_pose_stage([folder], device="cpu", runtime=runtime)
        return stage([stage.prepare(an_image())])

    with pytest.raises(WeightsError, match=says) as caught:
        found()
    assert len(str(caught.value).splitlines()) == 1


def test_what_it_cannot_do_is_refused(model, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model("simcc")
    with pytest.raises(OptionError, match="onnxruntime computes in fp32 alone"):
        load_pose_stage([folder], device="cpu", precision="bf16", runtime="onnxruntime")
    with pytest.raises(OptionError, match="exported network, which torch does not run"):
        load_pose_stage([folder], device="cpu", runtime="torch")
    with pytest.raises(OptionError, match="runs as it was exported"):
        load_pose_stage([folder], device="cpu", head="global")
    with pytest.raises(RecipeError, match="there is no field 'blur_kernel'"):
        load_pose_stage([folder], device="cpu", changes=["decoding.blur_kernel=3"])
    with pytest.raises(RecipeError, match="is run by onnx as it is"):
        build_pose_network(load_recipe(folder))
    monkeypatch.setattr("posepipe.networks.runtimes.registry.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'posepipe\[onnxruntime\]'"):
        load_pose_stage([folder], device="cpu")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_network_of_something_else_is_refused(runtime, model) -> None:
    helper, types = onnx.helper, onnx.TensorProto
    ends = [helper.make_tensor_value_info(name, types.FLOAT, ["b", 5]) for name in ("a", "b")]
    made = helper.make_graph([helper.make_node("Relu", ["a"], ["b"])], "g", ends[:1], ends[1:])
    content = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    folder = model("simcc", content.SerializeToString())
    with pytest.raises(WeightsError, match="is not a network from an image"):
        load_pose_stage([folder], device="cpu", runtime=runtime)
