"""The commands as a user runs them, and small real images to run them on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from click.testing import CliRunner, Result
from PIL import Image

from posepipe.cli.main import main
from posepipe.options import DEFAULT_DETECTOR
from posepipe.zoo.recipe import load_recipe

EXAMPLES = Path(__file__).parents[1] / "examples"


def posepipe(*arguments: object) -> Result:
    """A command, run in this process."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def start(
    *arguments: object,
    python: tuple[str, ...] = ("-m", "posepipe"),
    stdout: IO[str] | int = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """A command as a process of its own, on one core; stderr is a pipe, and stdout unless given."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.Popen(
        [sys.executable, *python, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        # Where the tests are a shell's background job, they would pass on that it ignores Ctrl-C.
        preexec_fn=None if sys.platform == "win32" else _takes_interruptions,
    )


def _takes_interruptions() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def lines(result: Result) -> list[str]:
    """What a command said on stderr, after a run without a traceback."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
    return result.stderr.splitlines()


def error_of(result: Result) -> str:
    """The one line that a failed command says, without its beginning."""
    (line,) = lines(result)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert line.startswith("posepipe: ")
    return line.removeprefix("posepipe: ")


def photo(path: Path, size: int = 200, source: str = "astronaut.jpg") -> Path:
    """A small copy of an example photograph of one person; its longer side is `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(EXAMPLES / source) as image:
        image.thumbnail((size, size))
        image.convert("RGB").save(path)
    return path


def blank(path: Path, size: int = 96) -> Path:
    """An image with nobody in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (size, size), (90, 120, 90)).save(path)
    return path


def truncated(path: Path) -> Path:
    """A JPEG whose second half is missing."""
    photo(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def content(path: Path) -> Any:
    """A JSON file's value."""
    return json.loads(path.read_bytes())


def boxes_file(path: Path, *bboxes: list[float], **changes: Any) -> Path:
    """A boxes.json as another program might write it, for `images/a.jpg` (200x200) beside it."""
    document = {
        "image_root": "pictures",
        "images": [{"id": 1, "file_name": "a.jpg", "width": 200, "height": 200}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": bbox, "score": 0.9}
            for bbox in bboxes or ([30, 5, 130, 190],)
        ],
    } | changes
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def smaller_detector(folder: Path, long_side: int) -> Path:
    """A model folder: the shipped detector with the longer side of its input made this small."""
    shipped = load_recipe(DEFAULT_DETECTOR)
    text = (shipped.folder / "recipe.toml").read_text(encoding="utf-8")
    quick = text.replace("long_side = 512", f"long_side = {long_side}")
    quick = quick.replace("scales = [0.625, 1]", "scales = [1]")
    assert quick.count("\n") == text.count("\n")
    assert len({text, quick}) == 2
    folder.mkdir()
    (folder / "recipe.toml").write_text(quick, encoding="utf-8")
    (folder / "weights.safetensors").symlink_to(shipped.weights_path)
    return folder
