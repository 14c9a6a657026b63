from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import error_of, posepipe

EXAMPLE = Path(__file__).parents[2] / "examples" / "astronaut.jpg"


@pytest.mark.parametrize("library", ["onnxruntime", "openvino"])
def test_the_default_detector_exported_finds_the_same_people(library, tmp_path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip(library)
    file = tmp_path / {"onnxruntime": "mine.onnx", "openvino": "mine.xml"}[library]
    result = posepipe("models", "export", "person-detector-rtmdet-nano", "-o", file)
    assert result.exit_code == 0, result.stderr
    assert f"{library} " in result.stdout
    assert "differs from torch by" in result.stdout
    assert f"weights       {file}" in posepipe("models", "show", file).stdout
    documents = []
    for model, runtime in ((file, library), ("person-detector-rtmdet-nano", "torch")):
        boxes = tmp_path / f"{runtime}.json"
        options = ["--model", model, "--runtime", runtime, "--precision", "fp32", "--device", "cpu"]
        assert posepipe("detect", EXAMPLE, *options, "-o", boxes).exit_code == 0
        documents.append(json.loads(boxes.read_text()))
    [exported], [own] = (document["annotations"] for document in documents)
    assert exported["bbox"] == pytest.approx(own["bbox"], abs=0.05)
    assert exported["score"] == pytest.approx(own["score"], abs=1e-4)
    assert documents[0]["info"]["models"][0]["name"] == "mine"
    [backend] = documents[0]["info"]["settings"]["backends"]
    assert backend.startswith(library)


@pytest.mark.slow
def test_only_torch_compiles(tmp_path) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnx")
    options = ["--compile", "on", "-o", tmp_path / "kps.json", "--device", "cpu"]
    for command, inputs, says in (
        ("run", ["--runtime", "openvino"], "--compile is for --runtime torch"),
        ("detect", ["--runtime", "openvino"], "--compile is for --runtime torch"),
        ("run", ["--engine", "ray"], "leave out --compile"),
    ):
        result = posepipe(command, EXAMPLE, *inputs, *options)
        assert result.exit_code == 1
        assert says in error_of(result)
    result = posepipe("detect", EXAMPLE, "--runtime", "openvino", "--log-json", *options)
    assert "compiling the networks, which takes up to minutes" in result.stderr


def test_a_wrong_runtime_is_a_usage_error(tmp_path) -> None:
    result = posepipe("run", EXAMPLE, "--runtime", "tensorrt", "-o", tmp_path / "kps.json")
    assert result.exit_code == 2
    assert "'tensorrt' is not one of" in result.stderr
    result = posepipe("models", "export", "nothing", "-o", tmp_path / "a.onnx")
    assert "no model 'nothing'" in error_of(result)
