"""Options that several commands share."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeVar, get_args

import click

from posepipe.cli.completion import files
from posepipe.cli.progress import report_findings
from posepipe.cli.terminal import LOG_JSON, echo
from posepipe.errors import OptionError
from posepipe.networks.runtimes.names import RuntimeName

if TYPE_CHECKING:
    from posepipe.io.documents import MadeBy
    from posepipe.io.images import ImageSet
    from posepipe.io.shards import Shard
    from posepipe.runtime.runs import RunOptions

Command = TypeVar("Command", bound=Callable[..., Any])
PATH = click.Path(path_type=Path)


class Fraction(click.FloatRange):
    """A number in [0, 1]; unlike click's own range it takes no NaN, which passes any comparison."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number that a string stands for, or a usage error."""
        number: float = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number in 0…1.", param, ctx)
        return number


FRACTION = Fraction()
COUNT = click.IntRange(min=1)
WORKERS = click.IntRange(0, 64)


def speak_up(*, verbose: bool) -> None:
    """Whether libraries' warnings are shown.

    They speak to programmers; what users must know is said in our own lines.
    """
    warnings.simplefilter("default" if verbose else "ignore")


VERBOSE = "posepipe.verbose"  # in what all contexts of a command share


def _note_verbose(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        ctx.obj = ctx.meta[VERBOSE] = True
        speak_up(verbose=True)


def _note_log_json(ctx: click.Context, _: click.Parameter, given: bool) -> None:
    if given and LOG_JSON not in ctx.meta:
        ctx.meta[LOG_JSON] = True
        ctx.find_root().with_resource(warnings.catch_warnings())  # put back at the command's end
        warnings.showwarning = _say_warning


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    echo(f"posepipe: warning: {category.__name__}: {message}", err=True)


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, shown in --help in the order given."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


# Before the command's name and behind it, since people try both.
log_options: Callable[[Any], Any] = together(
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        expose_value=False,
        callback=_note_verbose,
        help="Print a summary, and the warnings of libraries.",
    ),
    click.option(
        "--log-json",
        is_flag=True,
        expose_value=False,
        callback=_note_log_json,
        help="Write one JSON object per line to stderr, instead of text and progress bars.",
    ),
)

coco_folder_option: Callable[[Any], Any] = click.option(
    "--data", type=PATH, help="COCO's folder.  [default: $POSEPIPE_DATA, datasets/coco]"
)

image_options: Callable[[Any], Any] = together(
    click.argument("inputs", nargs=-1, metavar="[INPUT]...", shell_complete=files),
    click.option("--recursive", is_flag=True, help="Also search subfolders."),
    click.option("--split", help="A COCO split instead: minival, val2017, train2017."),
    coco_folder_option,
)

device_option: Callable[[Any], Any] = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:N, mps."
)
precision_option: Callable[[Any], Any] = click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Number format of convolutions.",
)


def _shard(_: click.Context, __: click.Parameter, given: str | None) -> Shard | None:
    from posepipe.io.shards import Shard

    return None if given is None else Shard.parse(given)


computing_options: Callable[[Any], Any] = together(
    device_option,
    precision_option,
    click.option(
        "--runtime",
        type=click.Choice(get_args(RuntimeName)),
        default="auto",
        show_default=True,
        help="What runs the networks; auto: the fastest one installed.",
    ),
    click.option(
        "--fast",
        is_flag=True,
        help="About a fifth of the computation, at the cost of several points of AP: "
        "smaller images, a smaller pose model, no flip test.",
    ),
    click.option(
        "--threads",
        type=COUNT,
        help="Threads that compute.  [default and maximum: the cores that this process may use]",
    ),
    click.option("--offline", is_flag=True, help="Download no weights."),
)

running_options: Callable[[Any], Any] = together(
    computing_options,
    click.option(
        "--workers",
        type=WORKERS,
        help="Threads that read images ahead of the networks.  [default: 2 to 12, by cores and "
        "memory]",
    ),
    click.option(
        "--max-pixels",
        type=click.IntRange(1, 178_956_970),
        help="Skip larger images; reading takes up to 10 bytes of memory per pixel.  "
        "[default: 120000000]",
    ),
    click.option("--resume", is_flag=True, help="Continue an interrupted run."),
    click.option("--strict", is_flag=True, help="Stop at the first bad image or box."),
    click.option(
        "--shard",
        metavar="K/N",
        callback=_shard,
        help="Process the k-th of N parts of the images, and write OUTPUT.k-of-N; `posepipe "
        "merge` combines the parts.",
    ),
    log_options,
)


def set_option(flag: str, name: str, example: str) -> Callable[[Any], Any]:
    """The option that sets any field of a recipe."""
    return click.option(
        flag,
        name,
        multiple=True,
        metavar="TABLE.FIELD=VALUE",
        help=f"Set a field of the recipe, such as {example}; may be repeated.",
    )


def image_set(options: dict[str, Any]) -> ImageSet:
    """The images that `image_options` lead to.

    Raises:
        PosepipeError: neither inputs nor a split, both, or no image there.
    """
    from posepipe.io.coco import image_files, read_annotations
    from posepipe.io.find_images import find_images
    from posepipe.io.splits import find_split

    inputs, split = options["inputs"], options["split"]
    if not inputs and not split:
        raise click.UsageError(
            "name images (a folder, files, a pattern), or a COCO set with --split"
        )
    if inputs and split:
        raise click.UsageError("name either images or a COCO set with --split, not both")
    if options["data"] and not split:
        raise click.UsageError("--data is the folder of a --split")
    if split:
        found = find_split(split, options["data"])
        return limited(image_files(read_annotations(found.annotations), found.images), options)
    images = limited(find_images(inputs, recursive=options["recursive"]), options)
    report_findings(images.findings)
    dead_end = next((image for image in images if image.problem), None)
    if options["strict"] and dead_end is not None:
        dead_end.read()  # raises; better now than after all the others
    return images


def limited(images: ImageSet, options: dict[str, Any]) -> ImageSet:
    """The images, with the limit of --max-pixels if it is given."""
    most = options["max_pixels"]
    return images if most is None else images.limited(most)


def check_output(output: Path, inputs: Iterable[str | Path | None]) -> None:
    """Check that the output can be written without destroying an input.

    Asked before models are loaded, so that a slip costs a second and not a minute.

    Raises:
        PosepipeError: the output is a folder, has no folder to go to, or is one of the inputs.
    """
    from posepipe.io.jsonfiles import check_output as check_place

    if str(output) == "-":
        raise OptionError("results go to files, not to stdout: name a file with -o")
    check_place(output)
    if not output.exists():
        return
    for path in (Path(path) for path in inputs if path):
        same = False
        with suppress(OSError, ValueError):  # no such file; a name too long, or with NUL
            same = path.samefile(output)
        if same:
            raise OptionError(
                f"{output} is an input, which writing would destroy: name another file"
            )


def chosen_workers(options: dict[str, Any]) -> int:
    """How many threads read images: what is given, or what suits the machine and the device."""
    from posepipe.networks.resources import default_workers

    given: int | None = options["workers"]
    return default_workers(options["device"]) if given is None else given


def shard_output(output: Path, options: dict[str, Any]) -> Path:
    """The file that a command writes: the output, or with --shard that shard's own."""
    shard: Shard | None = options["shard"]
    return output if shard is None else shard.path(output)


def run_options(
    options: dict[str, Any], *, output: Path, made_by: MadeBy, progress: Callable[[int], None]
) -> RunOptions:
    """The engine's options of `running_options`."""
    from posepipe.runtime.runs import RunOptions

    return RunOptions(
        output=output,
        made_by=made_by,
        resume=options["resume"],
        strict=options["strict"],
        workers=chosen_workers(options),
        progress=progress,
        warn=lambda line: echo(f"posepipe: warning: {line}", err=True),
        shard=options["shard"],
    )
