from __future__ import annotations

from pathlib import Path

import pytest
import torch

from posepipe.errors import MissingDependencyError, OptionError
from posepipe.networks.runtimes import registry
from posepipe.networks.runtimes.base import Placement
from posepipe.networks.runtimes.registry import RUNTIMES, Registered, place_file, place_network

MODEL = {"model": "a model"}


class Library:
    """A runtime that can do nothing but say what it can do."""

    def __init__(self, *dtypes: torch.dtype) -> None:
        self.dtypes = dtypes

    def why_not(self, placement: Placement) -> str:
        if placement.device.type != "cpu":
            return "only on the CPU"
        return "" if placement.dtype in self.dtypes else "not in that format"


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both runtimes are installed, one for both formats, one for fp32; torch would take bf16."""
    known = {
        "openvino": Library(torch.float32, torch.bfloat16),
        "onnxruntime": Library(torch.float32),
    }
    for name, library in known.items():
        registered = Registered(lambda library=library: library, "pytest")  # type: ignore[misc]
        monkeypatch.setitem(RUNTIMES, name, registered)
    monkeypatch.setattr(registry, "can_export", lambda: True)
    monkeypatch.setattr("posepipe.networks.devices._has_native_bf16", lambda _: True)
    monkeypatch.delenv("POSEPIPE_RUNTIME")


def without(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(RUNTIMES, name, Registered(lambda: Library(), "no_such_library"))


def test_auto_takes_the_first_that_computes_as_torch_would(monkeypatch) -> None:
    chosen = place_network(device="cpu", **MODEL)
    assert (chosen.runtime, chosen.dtype, chosen.automatic) == ("openvino", torch.bfloat16, True)
    without(monkeypatch, "openvino")
    chosen = place_network(device="cpu", **MODEL)
    assert (chosen.runtime, chosen.dtype) == ("torch", torch.bfloat16)
    chosen = place_network(device="cpu", precision="fp32", **MODEL)
    assert (chosen.runtime, chosen.dtype) == ("onnxruntime", torch.float32)
    without(monkeypatch, "onnxruntime")
    assert place_network(device="cpu", precision="fp32", **MODEL).runtime == "torch"


def test_auto_is_torch_where_nothing_can_be_exported(monkeypatch) -> None:
    assert place_network(device="cpu", exports=False, **MODEL).runtime == "torch"
    monkeypatch.setattr(registry, "can_export", lambda: False)
    assert place_network(device="cpu", **MODEL).runtime == "torch"


def test_auto_is_what_the_environment_says(monkeypatch) -> None:
    monkeypatch.setenv("POSEPIPE_RUNTIME", "onnxruntime")
    assert place_network(device="cpu", **MODEL).runtime == "onnxruntime"
    assert place_network(device="cpu", exports=False, **MODEL).runtime == "torch"
    monkeypatch.setenv("POSEPIPE_RUNTIME", "torch")
    assert place_network(device="cpu", **MODEL).runtime == "torch"
    assert place_file(Path("net.onnx"), device="cpu").runtime == "openvino"  # torch cannot
    monkeypatch.setenv("POSEPIPE_RUNTIME", "tensorrt")
    with pytest.raises(OptionError, match="POSEPIPE_RUNTIME is 'tensorrt': use one of auto, torch"):
        place_network(device="cpu", **MODEL)


def test_what_the_environment_asked_for_in_vain_is_told_as_its_wish(monkeypatch) -> None:
    monkeypatch.setenv("POSEPIPE_RUNTIME", "onnxruntime")
    with pytest.raises(
        OptionError, match=r"not in that format \(POSEPIPE_RUNTIME=onnxruntime\): choose"
    ):
        place_network(device="cpu", precision="bf16", **MODEL)
    with pytest.raises(OptionError, match="not in that format: choose"):
        place_network("onnxruntime", device="cpu", precision="bf16", **MODEL)
    without(monkeypatch, "onnxruntime")
    with pytest.raises(MissingDependencyError, match=r"^POSEPIPE_RUNTIME=onnxruntime needs"):
        place_network(device="cpu", **MODEL)


def test_a_runtime_that_is_named_keeps_the_precision_or_says_that_it_cannot() -> None:
    chosen = place_network("openvino", device="cpu", precision="fp32", **MODEL)
    assert (chosen.runtime, chosen.dtype, chosen.automatic) == ("openvino", torch.float32, False)
    assert place_network("onnxruntime", device="cpu", **MODEL).dtype == torch.float32
    with pytest.raises(OptionError, match="not in that format: choose another --runtime"):
        place_network("onnxruntime", device="cpu", precision="bf16", **MODEL)


def test_what_cannot_be_is_one_clear_line(monkeypatch) -> None:
    with pytest.raises(OptionError, match="no runtime 'tensorrt': use one of auto, torch, onnx"):
        place_network("tensorrt", **MODEL)
    with pytest.raises(OptionError, match="model 'a model' runs in torch alone"):
        place_network("openvino", device="cpu", exports=False, **MODEL)
    monkeypatch.setattr(registry, "resolve_device", lambda _: torch.device("cuda"))
    with pytest.raises(OptionError, match="only on the CPU"):
        place_network("openvino", precision="fp32", **MODEL)


def test_a_runtime_that_is_not_installed_names_the_remedy(monkeypatch) -> None:
    without(monkeypatch, "openvino")
    with pytest.raises(MissingDependencyError, match=r"needs no_such_library: pip install"):
        place_network("openvino", device="cpu", **MODEL)
    with pytest.raises(MissingDependencyError, match=r"net.xml needs no_such_library: pip install"):
        place_file(Path("net.xml"), device="cpu")


def test_a_runtime_that_is_broken_is_passed_over_unless_it_is_named(monkeypatch) -> None:
    def broken() -> Library:
        raise ImportError("libtbb.so.12: cannot open shared object file")

    monkeypatch.setitem(RUNTIMES, "openvino", Registered(broken, "pytest"))
    assert place_network(device="cpu", precision="fp32", **MODEL).runtime == "onnxruntime"
    assert place_file(Path("net.onnx"), device="cpu").runtime == "onnxruntime"
    with pytest.raises(MissingDependencyError, match=r"cannot be imported: libtbb.so.12: cannot"):
        place_network("openvino", device="cpu", **MODEL)


def test_files_go_to_what_reads_them(monkeypatch) -> None:
    assert place_file(Path("net.xml"), device="cpu").runtime == "openvino"
    assert place_file(Path("net.onnx"), "onnxruntime", device="cpu").runtime == "onnxruntime"
    without(monkeypatch, "openvino")
    assert place_file(Path("net.onnx"), device="cpu").runtime == "onnxruntime"
    with pytest.raises(OptionError, match=r"net.xml is OpenVINO's own file, which onnxruntime"):
        place_file(Path("net.xml"), "onnxruntime", device="cpu")
    with pytest.raises(OptionError, match=r"net.onnx is an exported network, which torch does not"):
        place_file(Path("net.onnx"), "torch", device="cpu")
