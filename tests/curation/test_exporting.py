"""Models as files of other runtimes: they are models by themselves and give torch's numbers."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import error_of, posepipe
from safetensors.torch import save_file

from posepipe.curation import exporting
from posepipe.curation.exporting import Exported, export_model
from posepipe.detection.loading import load_detector
from posepipe.errors import (
    DocumentError,
    MissingDependencyError,
    OptionError,
    PosepipeError,
    RecipeError,
)
from posepipe.pose.model import build_pose_network, load_pose_model
from posepipe.zoo.recipe import load_recipe

pytest.importorskip("onnx")
DETECTOR = "person-detector-rtmdet-nano"
RUNTIMES = {".onnx": "onnxruntime", ".xml": "openvino"}
IN_TORCH = {"device": "cpu", "precision": "fp32", "runtime": "torch"}


@pytest.fixture(scope="module", params=RUNTIMES)
def suffix(request: pytest.FixtureRequest) -> str:
    """Of files of each runtime that is installed."""
    pytest.importorskip(RUNTIMES[request.param])
    return request.param


@pytest.fixture
def file(suffix: str, tmp_path: Path) -> Path:
    """Where to export to."""
    return tmp_path / f"mine{suffix}"


@pytest.fixture(scope="module")
def exported(
    suffix: str, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Exported, Path]:
    """The tiny model, exported once for all tests that only read the file."""
    file = tmp_path_factory.mktemp("exported") / f"mine{suffix}"
    return export_model(tiny, file), file


@pytest.fixture
def tiny_file(exported: tuple[Exported, Path], tmp_path: Path) -> Path:
    """A copy of the file."""
    for part in exported[1].parent.iterdir():
        shutil.copy(part, tmp_path)
    return tmp_path / exported[1].name


def in_runtime(file: Path) -> dict[str, str]:
    """Where the file's own runtime gives what is comparable with torch."""
    return {**IN_TORCH, "runtime": RUNTIMES[file.suffix]}


@pytest.fixture(scope="module")
def tiny(tiny_recipe_of_module: Path) -> Path:
    """A model folder of a CPN with random weights."""
    torch.manual_seed(2)
    network = build_pose_network(load_recipe(tiny_recipe_of_module))
    save_file(network.state_dict(), tiny_recipe_of_module / "weights.safetensors")
    return tiny_recipe_of_module


def damaged(file: Path, *, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])


def test_a_pose_model_is_a_model_by_itself(tiny, exported) -> None:
    done, file = exported
    parts = [file, *file.parent.glob("mine.bin")]
    assert done.bytes == sum(part.stat().st_size for part in parts)
    assert done.difference.relative < 1e-4
    ours = load_pose_model(tiny, **IN_TORCH)
    theirs = load_pose_model(file, **in_runtime(file))
    assert theirs.name == "mine"
    assert theirs.runtime == done.runtime
    assert (theirs.preprocessing, theirs.decoding) == (ours.preprocessing, ours.decoding)
    for count in (0, 1, 5):  # batches of any size
        crops = torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8)
        wanted, found = ours.heatmaps(crops, flip=True), theirs.heatmaps(crops, flip=True)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-4)


def test_the_recipe_inside_is_what_its_use_needs(tiny, exported) -> None:
    _, file = exported
    own, inside = load_recipe(tiny), load_recipe(file)
    assert inside.tables.keys() == {*own.tables.keys() - {"training"}, "exported"}
    for name in ("network", "preprocessing", "decoding"):
        assert inside.tables[name] == own.tables[name]
    assert inside.tables["exported"]["model"] == "tiny"
    assert len(inside.tables["exported"]["weights_sha256"]) == 64
    assert "[decoding]\nblur_kernel = 5" in inside.text
    changed = load_pose_model(file, changes=["decoding.blur_kernel=3"])
    assert changed.decoding.blur_kernel == 3


def test_fields_that_are_set_are_in_the_file(tiny, file) -> None:
    export_model(tiny, file, changes=["decoding.flip=false", "decoding.blur_kernel=1"])
    model = load_pose_model(file, **in_runtime(file))
    assert (model.decoding.flip, model.decoding.blur_kernel) == (False, 1)
    with pytest.raises(RecipeError, match="training"):
        export_model(tiny, file, changes=["training.batch=2"])


def test_a_detector_sees_images_of_any_size(file, random_image) -> None:
    export_model(DETECTOR, file)
    ours = load_detector(DETECTOR, **IN_TORCH)
    theirs = load_detector(file, **in_runtime(file))
    assert theirs.origin.model == "mine"
    for size in ((120, 200), (90, 64), (120, 200)):
        image = random_image(*size)
        [wanted], [found] = (one([one.prepare(image, scale=0.4)]) for one in (ours, theirs))
        assert len(wanted) > 0
        np.testing.assert_allclose(found.boxes_xyxy, wanted.boxes_xyxy, atol=1e-2)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


@pytest.fixture
def random_image(monkeypatch: pytest.MonkeyPatch):
    """Makes images of noise; every cell that scores a millionth is a box."""
    tables = load_recipe(DETECTOR).tables
    monkeypatch.setitem(tables["candidates"], "min_score", 1e-6)

    def make(height: int, width: int) -> np.ndarray:
        return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make


def test_a_damaged_file_is_one_line(tiny_file) -> None:
    file = tiny_file
    for part in (file, file.with_suffix(".bin")):
        if part.exists():
            whole = part.read_bytes()
            for keep in (0, 100, len(whole) // 2, len(whole) - 5):
                damaged(part, keep=keep)
                with pytest.raises(PosepipeError) as caught:
                    load_pose_model(file)
                assert "mine." in str(caught.value)
                part.write_bytes(whole)
    file.with_suffix(".bin").unlink(missing_ok=True)
    if file.suffix == ".xml":
        with pytest.raises(
            PosepipeError, match=r"mine.bin: no such file: it belongs beside mine.xml"
        ):
            load_pose_model(file)


def test_what_is_asked_too_late_is_refused(exported) -> None:
    _, file = exported
    assert "mine is an exported network" in error_of(posepipe("models", "verify", file))
    for asked in ({"head": "global"}, {"changes": ["network.channels=8"]}):
        with pytest.raises(OptionError, match="runs as it was exported"):
            load_pose_model(file, **asked)
    with pytest.raises(OptionError, match="which torch does not run"):
        load_pose_model(file, runtime="torch")
    with pytest.raises(OptionError, match="is exported already"):
        export_model(file, file.with_name("again.onnx"))


def test_what_a_killed_export_left_is_removed(tiny, file) -> None:
    for number in range(2):
        left = file.with_name(f".{file.name}.x{number}.tmp")
        left.mkdir()
        (left / file.name).write_bytes(b"a part")
    export_model(tiny, file)
    assert [part for part in file.parent.iterdir() if part.name.startswith(".")] == []


def test_a_failure_leaves_what_was_there(tiny, file, monkeypatch) -> None:
    def differ(*_: object) -> None:
        raise OptionError("other numbers")

    file.write_text("as it was")
    monkeypatch.setattr(exporting, "check_equal", differ)
    with pytest.raises(OptionError, match="other numbers"):
        export_model(tiny, file)
    assert [part.name for part in file.parent.iterdir() if part.is_file()] == [file.name]
    assert file.read_text() == "as it was"


def test_what_cannot_be_exported_says_so(tiny, tmp_path, monkeypatch) -> None:
    with pytest.raises(OptionError, match="'keypointrcnn-resnet50-fpn' is run by torchvision"):
        export_model("keypointrcnn-resnet50-fpn", tmp_path / "a.onnx")
    with pytest.raises(OptionError, match="only single-stage detectors and pose networks"):
        export_model("person-detector-cspnext-fpn", tmp_path / "a.onnx")
    with pytest.raises(OptionError, match=r"a.pt: name a file that ends in .onnx or .xml"):
        export_model(tiny, tmp_path / "a.pt")
    with pytest.raises(OptionError, match=r"a.onnx: name a file that ends in .xml"):
        export_model(tiny, tmp_path / "a.onnx", format="openvino")
    with pytest.raises(DocumentError, match="there is no folder"):
        export_model(tiny, tmp_path / "nowhere" / "a.onnx")
    monkeypatch.setattr("posepipe.networks.runtimes.registry.find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'posepipe\[openvino\]'"):
        export_model(tiny, tmp_path / "a.xml")
    assert not [part for part in tmp_path.iterdir() if part.name != "tiny"]
