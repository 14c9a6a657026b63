"""The commands of the README and the manual: all are parsed, those that can run here are run."""

from __future__ import annotations

import re
import shlex
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import pytest
from builders import annotation, annotation_file, image_entry
from commands import photo, posepipe
from PIL import Image
from video_files import write_video

from posepipe.cli.main import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# The other pages name what is not here.
RUN = (
    *("README.md", "own-images.md", "own-boxes.md", "understanding.md", "skeletons.md"),
    *("model-zoo.md", "training.md"),
)
PYTHON_RUN = ("README.md", "own-images.md", "own-boxes.md")
NOT_RUN = {
    r"models fetch|fasterrcnn|maskrcnn": "needs a network: tests/cli/test_fetching.py",
    r"run (s3|https)://": "needs a network: tests/io/test_buckets.py",
    r"runs/(both|slow)": "differs from the page's first training by an option, which is parsed",
    r"view (?!.*--export)": "serves until it is stopped: tests/viewing",
}
# A training that takes a second, on whatever model.
SHORT = [
    *("--device", "cpu", "--set", "training.samples=2", "--set", "training.batch=2"),
    *("--set", "training.workers=0", "--set", "training.warm_up=0"),
]
DOG = {
    "id": 18,
    "name": "dog",
    "keypoints": ["nose", "left_ear", "right_ear", "tail"],
    "skeleton": [[1, 2], [1, 3], [1, 4]],
}


class Documented(NamedTuple):
    """A command of a page, without `posepipe`."""

    page: str
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        return " ".join(self.words)


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and contents of a page's blocks of code, fenced or indented, in their order."""
    pattern = r"^ *```(\w*)\n(.*?)^ *```|((?:^    .*\n)+)"
    found = re.findall(pattern, text, re.MULTILINE | re.DOTALL)
    return [(language, fenced or indented) for language, fenced, indented in found]


def commands_in(page: str, block: str) -> list[Documented]:
    """The commands in a block of code, in their order."""
    found = []
    block = re.sub(r"\\\n\s*", " ", block)  # continued lines
    for line in re.findall(r"^\s*(?:\w+=\S+ )*posepipe (.*)$", block, re.MULTILINE):
        line = re.sub(r"\s…(?=\s|$)", " ", line)  # what the reader adds
        found.append(Documented(page, tuple(shlex.split(line, comments=True))))
    return found


def documented(page: Path) -> list[Documented]:
    """The commands in a page's blocks of code."""
    text = page.read_text(encoding="utf-8")
    return [one for _, block in blocks(text) for one in commands_in(page.name, block)]


def mentioned(page: Path) -> list[Documented]:
    """The commands in a page's running text that have an option or an argument."""
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))
    lines = re.findall(r"(?<!`)`posepipe ([a-z]+ [^`]+)`(?!`)", text)
    return [Documented(page.name, tuple(shlex.split(line))) for line in lines]


COMMANDS = [command for page in PAGES for command in documented(page)]
MENTIONS = [command for page in PAGES for command in mentioned(page)]


def resolved(words: tuple[str, ...]) -> tuple[click.Context, click.Command, list[str]]:
    """A command, in a group or not, and what is left for it to parse."""
    # With its settings: a command keeps the help option that it is first asked for.
    context, command, rest = click.Context(main, **main.context_settings), main, list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        if found is None:
            break
        context = click.Context(found, info_name=rest.pop(0), parent=context)
        command = found
    return context, command, rest


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}: {command.line}")
def test_a_documented_command_can_be_parsed(command: Documented) -> None:
    context, found, rest = resolved(command.words)
    assert found is not main
    with found.make_context(command.words[0], rest, parent=context.parent):
        pass


@pytest.mark.parametrize("command", MENTIONS, ids=lambda command: f"{command.page}: {command.line}")
def test_a_command_in_the_text_has_options_that_exist(command: Documented) -> None:
    _, found, rest = resolved(command.words)
    assert found is not main
    options = {name for parameter in found.params for name in parameter.opts}
    options |= {name for parameter in found.params for name in parameter.secondary_opts}
    assert {word.partition("=")[0] for word in rest if word.startswith("-")} <= options | {"--help"}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages take for granted: images, labels, COCO's folder and results, all small."""
    folder = tmp_path_factory.mktemp("prepared")
    photo(folder / "photos" / "a.jpg")
    photo(folder / "group.jpg")
    photo(folder / "pictures" / "a.jpg")
    photo(folder / "pictures" / "b.jpg", source="grace_hopper.jpg")
    images, others = (
        [image_entry(1, file_name=name, width=width, height=200)]
        for name, width in {"a.jpg": 200, "b.jpg": 171}.items()
    )
    with Image.open(folder / "pictures" / "a.jpg") as image:
        write_video(folder / "clip.mp4", [np.asarray(image)] * 2)
    keypoints = [v for k in range(17) for v in (60.0 + 5 * k, 20.0 + 9 * k, 2)]
    person = annotation(bbox=[40, 5, 120, 190], area=12000.0, keypoints=keypoints)
    for name, pictures in {"people.json": images, "val.json": others}.items():
        annotation_file(folder / name, [person], pictures)
    for alias, name in {"people_train": "people", "people_val": "val", "own": "people"}.items():
        shutil.copy(folder / f"{name}.json", folder / f"{alias}.json")
    coco = folder / "datasets" / "coco"
    photo(coco / "val2017" / "a.jpg")
    annotation_file(coco / "annotations" / "person_keypoints_val2017.json", [person], images)
    dog = annotation(bbox=[40, 5, 120, 190], area=12000.0, keypoints=keypoints[:12], category_id=18)
    dog["num_keypoints"] = 4
    for name, pictures in {"dogs_train.json": images, "dogs_val.json": others}.items():
        annotation_file(folder / name, [dog], pictures, categories=[DOG])
    truth = ("--ground-truth", folder / "people.json", "--images", folder / "pictures")
    result = posepipe("pose", *truth, "-o", folder / "kps.json")
    assert result.exit_code == 0, result.output
    for name in ("before.json", "after.json"):
        shutil.copy(folder / "kps.json", folder / name)
    return folder


@pytest.mark.parametrize("page", RUN)
@pytest.mark.slow
def test_the_examples_of_a_page_run_one_after_the_other(
    page: str, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "here"
    shutil.copytree(prepared, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("POSEPIPE_DATA", raising=False)
    (path,) = (path for path in PAGES if path.name == page)
    run = 0
    for language, block in blocks(path.read_text(encoding="utf-8")):
        if language == "python":
            if page in PYTHON_RUN and all(map(find_spec, ("pandas", "supervision"))):
                exec(compile(block, page, "exec"), {})  # noqa: S102
                run += 1
            continue
        for command in commands_in(page, block):
            if any(re.search(rule, command.line) for rule in NOT_RUN):
                continue
            short = SHORT if command.words[0] == "train" else []
            result = posepipe(*command.words, *short)
            assert result.exit_code == 0, f"{command.line}: {result.output}"
            run += 1
    assert run >= 3


def test_what_is_not_run_is_there_and_has_its_reason() -> None:
    for rule in NOT_RUN:
        assert any(re.search(rule, command.line) for command in COMMANDS), rule
