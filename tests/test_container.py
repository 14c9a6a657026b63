"""The Dockerfile, as far as it can be checked without Docker: stages, paths, and what is sent."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TARGETS = {"cpu", "cuda"}


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and what follows them, lines joined, comments left out."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    parts = (line.split(None, 1) for line in joined.splitlines() if line.strip())
    return [(word, rest.strip()) for word, rest in parts]


def stages() -> dict[str, list[tuple[str, str]]]:
    """The instructions of each stage, by its name; the first is FROM."""
    found: dict[str, list[tuple[str, str]]] = {}
    for word, rest in instructions():
        if word == "FROM":
            found[re.split(r"\s+as\s+", rest, flags=re.IGNORECASE)[1]] = current = []
        current.append((word, rest))
    return found


def sent() -> list[str]:
    """What .dockerignore lets through, at the top of the repository."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert "*" in lines  # nothing else is sent
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


def test_the_targets_of_the_docs_are_stages() -> None:
    docs = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--target (\w+)", docs)) == TARGETS
    assert set(stages()) >= TARGETS


def test_stages_refer_to_stages_and_images_to_tags() -> None:
    for name, steps in stages().items():
        _, base = steps[0]
        assert base.split()[0] in stages() or re.search(r":\S+", base), name
        for _, rest in steps:
            assert set(re.findall(r"from=(\w+)", rest)) <= set(stages())


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_an_image_runs_posepipe_without_privileges_with_its_cache_as_a_volume(target: str) -> None:
    steps = dict(stages()[target])
    assert int(steps["USER"]) > 0
    assert steps["VOLUME"] == '["/cache"]'
    assert steps["ENTRYPOINT"] == '["posepipe"]'
    environment = " ".join(rest for word, rest in stages()["base"] if word == "ENV")
    assert "POSEPIPE_CACHE=/cache" in environment
    assert "HOME=/tmp" in environment  # what libraries write goes where it may


def test_what_is_sent_to_the_builder_is_there() -> None:
    for name in sent():
        assert (ROOT / name).exists(), name


def test_what_is_sent_is_all_that_the_wheel_is_made_of() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    homes = dict(line.split(" = ") for line in setup["options"]["package_dir"].split("\n") if line)
    packages = setup["options"]["packages"].split()
    of_packages = {homes.get(name, name.partition(".")[0]) for name in packages}
    readme = setup["metadata"]["long_description"].removeprefix("file: ")
    licences = setup["metadata"]["license_files"].split()
    assert {*of_packages, readme, *licences, "setup.cfg", "pyproject.toml"} <= set(sent())
