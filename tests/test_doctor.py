from __future__ import annotations

from importlib import metadata
from importlib.metadata import PackageNotFoundError

import pytest
from commands import EXAMPLES, posepipe

import posepipe.doctor as doctor
from posepipe.curation.exporting import embedded_tables
from posepipe.curation.golden import Verification
from posepipe.errors import WeightsError
from posepipe.options import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL
from posepipe.zoo.recipe import load_recipe


def test_a_sound_installation_is_told_in_a_form_for_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("POSEPIPE_RUN_DEVICE", "cpu")
    monkeypatch.setenv("POSEPIPE_RUN_DEVISE", "cpu")
    monkeypatch.setenv("POSEPIPE_MIRROR", "https://me:secret@example.org/models")
    result = posepipe("doctor", EXAMPLES / "astronaut.jpg", "--device", "cpu", "--precision=fp32")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[-1] == "nothing is broken"
    facts = {line[2:30].strip(): line[30:].strip() for line in lines if line[0] in " !"}
    assert not [line for line in lines if line.startswith("!")]
    assert {"posepipe", "Python", "torch", "numpy", "av", "[onnxruntime]", "memory"} <= set(facts)
    assert facts["--device cpu"] == "cpu"
    for model in (DEFAULT_DETECTOR, DEFAULT_POSE_MODEL):
        assert "its SHA-256 is right, gives its golden numbers to " in facts[model]
    assert facts["POSEPIPE_RUN_DEVICE"] == "cpu"
    assert facts["POSEPIPE_RUNTIME"] == "torch"  # as all tests have it
    assert facts["POSEPIPE_RUN_DEVISE"] == "cpu (unknown: nothing reads it)"
    assert facts["POSEPIPE_MIRROR"] == "https://…@example.org/models"
    assert facts["models"].endswith(" s; detector in fp32, poses in fp32")
    assert facts["detect"].endswith(" ms, astronaut.jpg of 512x512, people found: 1")
    assert facts["pose"].endswith(" ms for 1 box")


def test_what_is_broken_is_named_and_the_status_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(recipe: object, *, offline: bool) -> None:
        raise WeightsError("the weights are damaged")

    monkeypatch.setattr("posepipe.zoo.cache.weights_by_name", damaged)
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "av" else version(name))
    monkeypatch.setattr("posepipe.doctor.import_module", lambda name: 1 / (name != "cv2"))
    result = posepipe("doctor", "--device", "cuda:77")
    assert result.exit_code == 1
    broken = result.stdout.partition("\nbroken: ")[2].splitlines()
    for words in (
        "av is missing: pip install av",
        "opencv-python-headless cannot be imported (division by zero): install it again",
        "device 'cuda:77' asked for",
        "the weights are damaged",
    ):
        assert any(words in line for line in broken), words
    assert "versions\n" in result.stdout  # the rest is told all the same
    assert "! av " in result.stdout


def test_a_model_that_computes_otherwise_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    differs = Verification("heatmaps", 0.5, 1e-4, other_weights=False)
    monkeypatch.setattr("posepipe.curation.golden.verify", lambda recipe: differs)
    problems = [fact.problem for fact in doctor._models() if fact.problem]
    assert problems == [
        f"{name} differs from its golden numbers by 5.0e-01"
        for name in (DEFAULT_POSE_MODEL, DEFAULT_DETECTOR)
    ]


def test_a_report_does_not_tell_who_wrote_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/somebody")
    assert doctor.shown("/users/somebody/.cache: damaged") == "~/.cache: damaged"


def test_in_a_folder_of_the_code_that_is_not_installed_it_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(package: str) -> str:
        raise PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", unknown)
    monkeypatch.setattr(metadata, "requires", unknown)
    [ours, *others] = doctor._versions()
    assert ours.value.startswith("not installed (")
    assert [fact.name for fact in others if fact.problem] == []
    made_of = embedded_tables(load_recipe(DEFAULT_POSE_MODEL), "f00d", int8=False)["exported"]
    assert made_of["posepipe"] == ""
