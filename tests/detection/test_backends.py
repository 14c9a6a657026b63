"""Backends: every name that a recipe may give stands for a module that can do what is asked."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import get_args, get_type_hints

import pytest

from posepipe.detection.backends import BACKENDS, DEFAULT_BACKEND, Backend, Registered, backend_of
from posepipe.detection.candidates import DetectorTable
from posepipe.errors import RecipeError
from posepipe.zoo.recipe import Recipe


def recipe_of(tmp_path, **detector) -> Recipe:
    tables = {"model": {"stage": "detection", "summary": ""}, "detector": detector}
    return Recipe("mine", tmp_path, tables)


def test_recipes_can_name_the_registered_backends_and_no_others(tmp_path):
    assert set(get_args(get_type_hints(DetectorTable)["backend"])) == set(BACKENDS)
    assert DetectorTable().backend == DEFAULT_BACKEND
    with pytest.raises(RecipeError, match=r"backend takes one of .*torchvision"):
        backend_of(recipe_of(tmp_path, backend="nobody's"))


@pytest.mark.parametrize("name", BACKENDS)
def test_a_backend_takes_what_the_protocol_says(name, tmp_path):
    backend = backend_of(recipe_of(tmp_path, backend=name))
    for function in ("load", "build", "detector"):
        wanted = list(inspect.signature(getattr(Backend, function)).parameters)[1:]
        assert list(inspect.signature(getattr(backend, function)).parameters) == wanted


def test_a_backend_whose_library_is_missing_says_so():
    assert BACKENDS[DEFAULT_BACKEND].is_installed
    assert not Registered(BACKENDS[DEFAULT_BACKEND].open, library="no_such_library").is_installed


def test_the_registry_imports_no_backend():
    code = "import sys, posepipe.detection.backends; print(*(sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "torchvision", "detectron2"} & set(done.stdout.split())
