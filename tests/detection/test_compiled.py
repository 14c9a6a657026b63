"""Compiled detectors give the boxes of those that are not."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from posepipe.detection.candidates import Candidates, Origin
from posepipe.detection.rtmdet import RTMDetDetector, RTMDetPreprocessing
from posepipe.detection.rtmdet_network import RTMDet, RTMDetTable
from posepipe.detection.stage import DetectionSettings, DetectionStage
from posepipe.detection.torchvision import TorchvisionDetector
from posepipe.errors import OptionError
from posepipe.io.images import ImageFile
from posepipe.networks.runtimes.base import Port, RuntimeNetwork

ORIGIN = Origin("small", "torch", "")
NO_COMPILER = pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)
ALIKE = [(640, 480), (320, 240), (96, 72)]
SIZES = [(96, 64), (96, 64), (64, 96), (96, 64), (96, 30), (80, 96), (96, 64), (30, 96)]


@pytest.fixture(params=["rtmdet", "torchvision"])
def make_stage(request, random_network, small):
    """Makes the same small detector's stage anew."""

    def make(batch_size: int) -> DetectionStage:
        if request.param == "torchvision":
            detector = TorchvisionDetector(random_network(), origin=ORIGIN, preprocessing=small)
        else:
            torch.manual_seed(1)
            network = RTMDet(RTMDetTable(width=0.125, channels=16, norm=False, classes=3))
            with torch.no_grad():
                for layer in network.head.scores:
                    layer.weight.mul_(30)
                    layer.bias.zero_()
                for layer in network.head.boxes:
                    layer.bias.fill_(2.0)
            given = RTMDetPreprocessing(long_side=96)
            detector = RTMDetDetector(network, origin=ORIGIN, preprocessing=given)
        return DetectionStage([detector], DetectionSettings(batch_size=batch_size))

    return make


def check_equal_boxes(compiled: DetectionStage, plain: DetectionStage, images) -> None:
    for start in range(0, len(images), plain.batch_size):
        batch = [plain.prepare(image) for image in images[start : start + plain.batch_size]]
        for ours, theirs in zip(compiled(batch), plain(batch), strict=True):
            assert len(ours) == len(theirs) > 3
            np.testing.assert_allclose(ours.scores, theirs.scores, atol=1e-4)
            np.testing.assert_allclose(ours.boxes_xyxy, theirs.boxes_xyxy, atol=1e-3)


def test_compiled_detectors_give_equal_boxes_and_say_so(make_stage, an_image, monkeypatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    compiled, plain = make_stage(3), make_stage(3)
    compiled.compile()
    assert [origin.backend for origin in compiled.origins] == ["torch, compiled"]
    images = [ImageFile(n, None, "", an_image(*size, n)) for n, size in enumerate(SIZES)]
    check_equal_boxes(compiled, plain, images)


@pytest.mark.slow
@NO_COMPILER
@pytest.mark.filterwarnings("ignore")  # torch's own
def test_so_do_those_that_are_really_compiled(make_stage, an_image) -> None:
    compiled, plain = make_stage(1), make_stage(1)
    compiled.compile()  # one shape and one size, since each takes half a minute
    images = [ImageFile(n, None, "", an_image(*size, n)) for n, size in enumerate(ALIKE)]
    check_equal_boxes(compiled, plain, images)


def test_what_is_recorded_gives_equal_boxes_and_is_recorded_once(
    make_stage, an_image, monkeypatch
) -> None:
    """Here nothing is recorded, but batches are put together from two sizes as on a GPU."""
    plain, in_sizes = make_stage(4), make_stage(4)
    [detector] = in_sizes.detectors
    if not isinstance(detector, RTMDetDetector):
        pytest.skip("its network is not recorded")
    with monkeypatch.context() as context:
        context.setattr(detector, "_device", torch.device("cuda"))
        detector.record(4)
        first = detector._in_sizes
        DetectionStage([detector], DetectionSettings(batch_size=9))
        assert detector._in_sizes is first is not None
    images = [ImageFile(n, None, "", an_image(*size, n)) for n, size in enumerate(SIZES)]
    check_equal_boxes(in_sizes, plain, images)
    monkeypatch.setattr(torch, "compile", lambda network, **_: network)
    detector.compile(4)
    monkeypatch.setattr(detector, "_device", torch.device("cuda"))
    detector.record(4)
    assert detector._in_sizes is None  # it records itself


def test_rtmdet_computes_with_all_bits_of_float32(make_stage, an_image, monkeypatch) -> None:
    """Torch's default on CUDA is TF32, whose boxes differ."""
    stage, seen = make_stage(2), []
    [detector] = stage.detectors
    if not isinstance(detector, RTMDetDetector):
        pytest.skip("torch's default is good enough for its network")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    detector.network.register_forward_hook(lambda *_: seen.append(torch.backends.cudnn.allow_tf32))
    stage([stage.prepare(ImageFile(1, None, "", an_image(96, 64)))])
    assert seen == [False]
    assert torch.backends.cudnn.allow_tf32


def test_what_another_library_or_runtime_runs_is_not_compiled() -> None:
    class Other(RuntimeNetwork):
        def __init__(self) -> None:
            super().__init__("a", version="b 1", inputs=[Port("", (1, 3, 64, 64))], outputs=["c"])

        def _start(self, name, parts, *, alone):
            raise NotImplementedError

    class Foreign:
        origin = Origin("theirs", "library 3", "")

        def prepare(self, image, *, scale=1.0):
            return image

        def __call__(self, batch) -> list[Candidates]:
            return [Candidates.none() for _ in batch]

    with pytest.raises(OptionError, match=r"b 1 runs small .* --compile is for --runtime torch"):
        DetectionStage([RTMDetDetector(Other(), origin=ORIGIN)]).compile()
    with pytest.raises(OptionError, match=r"theirs cannot be compiled \(library 3\)"):
        DetectionStage([Foreign()]).compile()
