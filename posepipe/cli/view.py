"""``posepipe view``: results in a browser."""

from __future__ import annotations

from pathlib import Path

import click

from posepipe.cli.options import PATH, log_options
from posepipe.cli.progress import progress_bar, report_findings, say
from posepipe.cli.terminal import echo


@click.command()
@click.argument("results", type=PATH, metavar="KPS.JSON")
@click.option("--annotations", type=PATH, help="Labels of the same images, to compare with.")
@click.option("--images", type=PATH, help="The folder of the images, if they have moved.")
@click.option(
    "--before", type=PATH, help="Earlier results on the same images: sort by what got worse."
)
@click.option(
    "--export", type=PATH, help="Write the page to this new folder instead; it needs no server."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[default: a free one]")
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser.")
@log_options
@click.pass_obj
def view(
    verbose: bool,
    /,
    results: Path,
    annotations: Path | None,
    images: Path | None,
    before: Path | None,
    export: Path | None,
    host: str,
    port: int,
    open_page: bool,
) -> None:
    """View the poses of KPS.JSON, or the boxes of a BOXES.JSON, in a browser.

    With labels, images can be sorted and filtered by errors. The page is served on this machine
    only, until it is stopped with Ctrl-C.
    """
    import webbrowser

    from posepipe.viewing.load import load_content
    from posepipe.viewing.server import make_server
    from posepipe.viewing.site import Site, write_site

    content = load_content(results, annotations=annotations, images=images, before=before)
    report_findings(content.findings)
    site = Site(content)
    if export is not None:
        with progress_bar(len(site.routes()), "view", export, unit="files") as bar:
            write_site(site, export, progress=bar)
        echo(export / "index.html")
        say(f"{len(content.images)} images in {export}", verbose=verbose)
        return
    server = make_server(site, host=host, port=port)
    address = f"http://{host}:{server.server_port}/"
    echo(address)
    if open_page:
        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()
