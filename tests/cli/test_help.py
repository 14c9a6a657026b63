from __future__ import annotations

import subprocess
import sys

import pytest
from commands import posepipe

COMMANDS = ["run", "detect", "pose", "eval", "draw", "models", "train"]


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
