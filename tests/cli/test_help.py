from __future__ import annotations

import subprocess
import sys

import click
import pytest
from commands import posepipe

from posepipe.cli.lazy import LazyGroup
from posepipe.cli.main import main
from posepipe.options import DEFAULT_DETECTOR, DEFAULT_POSE_MODEL

COMMANDS = list(main.later)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        *([command] for command in COMMANDS),
        ["models", "show"],
        ["models", "fetch"],
        ["models", "pack"],
    ],
)
def test_every_command_has_help(arguments: list[str]) -> None:
    for flag in ("--help", "-h"):
        result = posepipe(*arguments, flag)
        assert result.exit_code == 0
        assert result.stdout.startswith("Usage: ")
        assert result.stderr == ""


def test_the_help_of_the_program_names_every_command() -> None:
    result = posepipe("--help")
    listed = result.stdout.split("Commands:")[1].split()
    assert set(COMMANDS) <= set(listed)


def test_help_loads_no_large_library() -> None:
    code = f"""
import sys
from posepipe.cli.main import main
for arguments in (["--help"], *([command, "--help"] for command in {COMMANDS}), ["models"]):
    try:
        main(arguments)
    except SystemExit as end:
        assert end.code == 0, arguments
large = {{"torch", "torchvision", "cv2", "pycocotools", "numpy", "PIL"}}
sys.exit(", ".join(sorted(large & set(sys.modules))) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("Usage: ") == 1 + len(COMMANDS)


def test_the_programs_own_help_loads_no_command_and_no_library_but_click() -> None:
    code = """
import sys
before = set(sys.modules)
from posepipe.cli.main import main
try:
    main(["--help"])
except SystemExit:
    pass
loaded = {name for name, module in sys.modules.items() if module is not None}  # None: barred
print(*sorted(loaded - before), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.split())
    packages = {name.partition(".")[0] for name in loaded}
    assert packages - set(sys.stdlib_module_names) == {"click", "posepipe"}
    assert not loaded & {place.partition(":")[0] for place, _ in main.later.values()}
    assert not loaded & {"asyncio", "email", "http", "importlib.metadata", "ssl", "tempfile"}


def groups() -> list[LazyGroup]:
    models = main.get_command(click.Context(main), "models")
    assert isinstance(models, LazyGroup)
    return [main, models]


@pytest.mark.parametrize("group", groups(), ids=lambda group: group.name)
def test_what_a_groups_help_says_of_a_command_is_the_commands_own_first_sentence(
    group: LazyGroup,
) -> None:
    context = click.Context(group)
    for name, (_, line) in group.later.items():
        command = group.get_command(context, name)
        assert command is not None
        assert (command.name, command.get_short_help_str(limit=300)) == (name, line)
    shown = " ".join(group.get_help(context).partition("Commands:")[2].split())
    assert all(f"{name} {line}" in shown for name, (_, line) in group.later.items())
    assert group.get_command(context, "dance") is None


def test_the_version_is_told() -> None:
    result = posepipe("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("posepipe, version ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        ["detect", "photos"],
        ["detect", "-o", "boxes.json"],
        ["detect", "photos", "--split", "minival", "-o", "boxes.json"],
        ["detect", "photos", "--data", "coco", "-o", "boxes.json"],
        ["detect", "photos", "-o", "boxes.json", "--batch-size", "0"],
        ["detect", "photos", "-o", "boxes.json", "--batch-size", "-3"],
        ["detect", "photos", "-o", "boxes.json", "--nms-threshold", "7"],
        ["detect", "photos", "-o", "boxes.json", "--nms-threshold", "nan"],
        ["detect", "photos", "-o", "boxes.json", "--nms", "medium"],
        ["detect", "photos", "-o", "boxes.json", "--min-score", "50"],
        ["detect", "photos", "-o", "boxes.json", "--top-k", "0"],
        ["detect", "photos", "-o", "boxes.json", "--workers", "many"],
        ["run", "photos"],
        ["pose", "-o", "kps.json"],
        ["pose", "boxes.json", "-o", "kps.json", "--ground-truth", "labels.json"],
        ["pose", "-o", "kps.json", "--ground-truth", "labels.json"],
        ["pose", "boxes.json", "-o", "kps.json", "--batch-size", "-1"],
        ["pose", "boxes.json", "-o", "kps.json", "--oks-nms", "2"],
        ["eval", "kps.json"],
        ["eval", "kps.json", "--split", "minival", "--annotations", "labels.json"],
        ["eval", "kps.json", "--data", "coco", "--annotations", "labels.json"],
        ["draw", "kps.json"],
        ["draw", "kps.json", "-o", "drawn", "--min-score", "-1"],
        ["models", "show"],
        ["models", "fetch"],
        ["models", "fetch", "fasterrcnn-resnet50-fpn", "--all"],
        ["models", "pack", "run"],
        ["train", "recipe"],
        ["train", "recipe", "-o", "run", "--minutes", "0"],
        ["train", "-o", "run"],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_status_2_and_a_line_about_it(arguments: list[str]) -> None:
    result = posepipe(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Usage: ")
    assert result.stderr.splitlines()[-1].startswith("Error: ")


def test_the_help_names_the_default_models() -> None:
    run = main.get_command(click.Context(main, **main.context_settings), "run")
    assert run is not None
    helps = {option.name: option.help for option in run.params if isinstance(option, click.Option)}
    assert f"[default: {DEFAULT_DETECTOR}]" in helps["detection_models"]
    assert f"[default: {DEFAULT_POSE_MODEL}]" in helps["pose_models"]
