"""``posepipe serve``: poses over HTTP."""

from __future__ import annotations

from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import click

from posepipe.cli.options import COUNT, WORKERS, chosen_workers, computing_options, log_options
from posepipe.cli.stage_options import (
    chosen_detection,
    chosen_pose,
    detection_options_of_run,
    pipeline_of,
    pose_options,
)
from posepipe.cli.terminal import echo
from posepipe.errors import MissingDependencyError

_ABOVE_0 = click.FloatRange(min=0, min_open=True)
_NEEDED = ("fastapi", "fastapi_offline", "uvicorn", "prometheus_client")


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--together",
    type=COUNT,
    default=16,
    show_default=True,
    help="Images per batch, at most.",
)
@click.option(
    "--max-delay",
    type=click.FloatRange(min=0, max=10_000),
    default=10,
    show_default=True,
    help="Milliseconds for which an image waits for others to share its batch, at most.",
)
@click.option(
    "--queue",
    type=COUNT,
    default=512,
    show_default=True,
    help="Simultaneous requests; more are rejected (429).",
)
@click.option(
    "--queue-megabytes",
    type=_ABOVE_0,
    default=2000,
    show_default=True,
    help="Memory for files and pixels of all requests; more are rejected (429).",
)
@click.option(
    "--max-megabytes",
    type=_ABOVE_0,
    default=20,
    show_default=True,
    help="Maximum size of an image file.",
)
@click.option(
    "--max-pixels",
    type=click.IntRange(1, 178_956_970),
    default=50_000_000,
    show_default=True,
    help="Maximum size of an image.",
)
@click.option(
    "--timeout",
    type=_ABOVE_0,
    default=30,
    show_default=True,
    help="Seconds for the upload of an image, and for its response.",
)
@click.option(
    "--workers",
    type=WORKERS,
    help="Threads that decode images.  [default: 2 to 12, by cores and memory]",
)
@detection_options_of_run
@pose_options
@computing_options
@log_options
@click.pass_obj
def serve(verbose: bool, /, host: str, port: int, **options: Any) -> None:
    """Serve poses over HTTP: POST an image, get its poses as JSON, or the drawn image.

    \b
    curl --data-binary @group.jpg http://127.0.0.1:8000/poses
    curl --data-binary @group.jpg http://127.0.0.1:8000/draw -o drawn.jpg

    It listens on this machine only, unless --host says otherwise, and has no authentication. After
    Ctrl-C or SIGTERM it finishes the current requests. /docs documents the API, /health and
    /metrics are for monitoring. -v logs every request.
    """  # noqa: D301  # click reads the backspace: keep these lines
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"serve needs {', '.join(missing)}: pip install 'posepipe[serve]'"
        )
    from posepipe.serving.app import create_app
    from posepipe.serving.options import ServeOptions
    from posepipe.serving.server import Server

    limits = ServeOptions(
        max_bytes=round(options["max_megabytes"] * 1e6),
        max_pixels=options["max_pixels"],
        queue=options["queue"],
        queue_bytes=round(options["queue_megabytes"] * 1e6),
        together=options["together"],
        max_delay=options["max_delay"] / 1000,
        timeout=options["timeout"],
        workers=max(1, chosen_workers(options)),
    )
    pipeline = pipeline_of(options, detection=chosen_detection(options), pose=chosen_pose(options))
    made = pipeline.load().made_by("run")
    stages = made.settings["detection"], made.settings["pose"]
    about = {
        "version": made.version,
        "models": ", ".join(model.name for model in made.models),
        "device": str(stages[0]["device"]),
        "precision": ", ".join(dict.fromkeys(str(stage["precision"]) for stage in stages)),
    }
    loopback = host in ("127.0.0.1", "localhost", "::1")
    hosts = {"hosts": ["127.0.0.1", "localhost", "[::1]"] if loopback else ["*"]}
    server = Server(
        create_app(pipeline, limits, about=about, **hosts),
        limits,
        host=host,
        port=port,
        log=lambda line: echo(f"posepipe: {line}", err=True),
        requests=verbose,
    )
    echo(f"http://{f'[{host}]' if ':' in host else host}:{server.port}/")
    with suppress(KeyboardInterrupt):  # uvicorn has finished by then
        server.run()
