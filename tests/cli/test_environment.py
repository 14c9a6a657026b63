"""Options from the environment, completion in a shell, and JSON on stderr."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.core import ParameterSource
from click.testing import CliRunner
from commands import blank, content, lines, posepipe, truncated

from posepipe.cli.lazy import LazyGroup
from posepipe.cli.main import main
from posepipe.io.splits import DATA_VARIABLE
from posepipe.zoo.recipe import list_recipes

# What else the environment says to posepipe: none of them may be an option's.
TAKEN = {
    *("POSEPIPE_CACHE", "POSEPIPE_OFFLINE", "POSEPIPE_MIRROR", "POSEPIPE_PINS", "POSEPIPE_FUZZ"),
    DATA_VARIABLE,
}


def commands(group: LazyGroup, path: str = "posepipe") -> Iterator[tuple[str, click.Command]]:
    """Every command with its full name, groups included."""
    context = click.Context(group)
    yield path, group
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, LazyGroup):
            yield from commands(command, f"{path} {name}")
        elif command is not None:
            yield f"{path} {name}", command


COMMANDS = dict(commands(main))
OPTIONS = [
    (name, option)
    for name, command in COMMANDS.items()
    for option in command.params
    if isinstance(option, click.Option) and option.name != "version"
]


def value_for(kind: click.ParamType) -> str:
    """A value that an option of this type takes."""
    match kind:
        case click.Choice():
            return str(kind.choices[0])
        case click.Tuple():
            return " ".join(map(value_for, kind.types))
        case click.types.BoolParamType():
            return "1"
        case click.IntRange() | click.FloatRange() | click.types.IntParamType():
            return "1"
    return "1"


@pytest.mark.parametrize(
    ("name", "option"), OPTIONS, ids=[f"{name} {option.opts[-1]}" for name, option in OPTIONS]
)
def test_every_option_can_be_given_by_its_variable(
    name: str, option: click.Option, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = max(option.opts, key=len)
    variable = f"{name} {flag.lstrip('-')}".upper().replace(" ", "_").replace("-", "_")
    assert option.envvar == variable
    monkeypatch.setenv(variable, "1/2" if flag == "--shard" else value_for(option.type))
    context = click.Context(COMMANDS[name])
    with context.scope(cleanup=False):
        _, source = option.consume_value(context, {})
        value, _ = option.handle_parse_result(context, {}, [])
    assert source is ParameterSource.ENVIRONMENT
    assert value if option.expose_value else value is None


def test_no_two_options_and_nothing_else_share_a_variable() -> None:
    variables = [str(option.envvar) for _, option in OPTIONS]
    assert len(variables) > 100
    assert len(set(variables)) == len(variables)
    assert not set(variables) & TAKEN


def test_the_command_line_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSEPIPE_RUN_DEVICE", "quark")
    monkeypatch.setenv("POSEPIPE_RUN_OUTPUT", str(tmp_path / "by-variable.json"))
    image = blank(tmp_path / "a.jpg")
    assert "no device 'quark'" in posepipe("run", image).stderr
    assert posepipe("run", image, "--device", "cpu").exit_code == 0
    assert content(tmp_path / "by-variable.json") == []


def completed(words: str) -> list[str]:
    """What a shell is told of the last of the words: kind and text of each candidate."""
    environment = {
        "_POSEPIPE_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    return CliRunner().invoke(main, prog_name="posepipe", env=environment).stdout.split()


def test_commands_options_and_choices_are_completed() -> None:
    assert completed("posepipe r") == ["plain,run", "plain,rescore"]
    assert completed("posepipe models f") == ["plain,fetch"]
    assert "plain,--min-score" in completed("posepipe run --m")
    assert completed("posepipe run --nms soft_g") == ["plain,soft_gaussian"]


def test_models_and_files_are_completed() -> None:
    names = {stage: [recipe.name for recipe in list_recipes(stage)] for stage in ("pose", None)}
    assert completed("posepipe pose --model c") == [
        f"plain,{name}" for name in names["pose"] if name.startswith("c")
    ]
    assert completed("posepipe models show ") == [f"plain,{name}" for name in names[None]]
    assert completed("posepipe pose --model ./mine") == ["dir,./mine"]
    assert completed("posepipe run photos/") == ["file,photos/"]
    assert completed("posepipe draw k") == ["file,k"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_itself_completes(tmp_path: Path) -> None:
    # The script that users evaluate, then the function that it registers, as bash calls it.
    program = tmp_path / "posepipe"
    call = f"#!{sys.executable}\nfrom posepipe.cli.main import main\nmain()\n"
    program.write_text(call, encoding="utf-8")
    program.chmod(0o755)
    script = """
eval "$(_POSEPIPE_COMPLETE=bash_source posepipe)"
function_of=$(complete -p posepipe | sed -E 's/.*-F ([^ ]+).*/\\1/')
COMP_WORDS=(posepipe models pa) COMP_CWORD=2
"$function_of" posepipe
echo "${COMPREPLY[@]}"
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script],  # noqa: S607
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if "Shell completion is not supported" in done.stderr:  # click needs bash 4.4; macOS has 3.2
        pytest.skip(done.stderr)
    assert (done.stdout, done.stderr) == ("pack\n", "")


def records(text: str) -> list[dict[str, Any]]:
    """What a command wrote to stderr, without the times, which are checked."""
    found = [json.loads(line) for line in text.splitlines()]
    assert all(record.pop("time").endswith("Z") for record in found)
    return found


def test_json_says_what_was_done_and_left_out(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        blank(tmp_path / "pictures" / name)
    bad = truncated(tmp_path / "pictures" / "c.jpg")
    output = tmp_path / "kps.json"
    result = posepipe("run", tmp_path / "pictures", "-o", output, "--log-json")
    skipped, count, nobody, summary = records(result.stderr)
    assert skipped["level"] == "warning"
    assert skipped["message"].startswith(f"skipped: {bad} is damaged or truncated")
    assert (count["message"], nobody["message"]) == (
        "1 input skipped",
        "no people found in 2 images",
    )
    assert summary == {
        "level": "info",
        "message": f"2 images, 0 people: {output}",
        "images": 2,
        "people": 0,
        "output": str(output),
    }
    assert (result.exit_code, result.stdout) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["run", "nothing.jpg", "-o", "k.json"], 1, "nothing.jpg: no such file"),
        (["run", "--dance"], 2, "No such option '--dance'"),
        (["models", "show", "\x1b[31m"], 1, "no model '\\x1b[31m'"),
    ],
    ids=["error", "usage", "hostile name"],
)
def test_json_says_an_error_in_one_object(
    arguments: list[str], status: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSEPIPE_LOG_JSON", "1")
    result = posepipe(*arguments)
    (record,) = records(result.stderr)
    assert (result.exit_code, record["level"]) == (status, "error")
    assert message in record["message"]


def test_json_ends_with_its_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*_: object, **__: object) -> None:
        warnings.warn("odd", UserWarning, stacklevel=1)
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("posepipe.io.find_images.find_images", warn)
    shown = warnings.showwarning
    result = posepipe("--log-json", "-v", "run", tmp_path, "-o", tmp_path / "kps.json")
    warning, error = records(result.stderr)
    assert warning == {"level": "warning", "message": "UserWarning: odd"}
    assert error["traceback"].endswith("RuntimeError: unforeseen\n")
    assert warnings.showwarning is shown
    (line,) = lines(posepipe("run", tmp_path, "-o", tmp_path / "kps.json"))
    assert line.startswith("posepipe: unforeseen error")
