"""A hook of mkdocs: pages whose text lies outside docs/, and links that hold on the site.

Texts link to files of the repository, so that they can be read there. On the site a link to a file
that is a page becomes a link to that page; one to another file of the repository becomes its text.
"""

from __future__ import annotations

import inspect
import json
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from posepipe.cli.main import main
from posepipe.zoo.recipe import list_recipes

ROOT = Path(__file__).parents[1]
# [text](target) and ![text](target), but for what stands in code.
_LINK = re.compile(
    r"(?P<code>```.*?```|`[^`\n]*`)|(?P<text>!?\[[^][]*\])\((?P<target>[^)\s]+)\)", re.S
)


def _pages_elsewhere() -> dict[str, str]:
    """Pages of the site by the repository's files that hold their texts."""
    pages = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
    pages["examples/first-steps.ipynb"] = "first-steps.md"
    pages |= {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
    for card in sorted(ROOT.glob("models/*/README.md")):
        pages[card.relative_to(ROOT).as_posix()] = f"models/{card.parent.name}.md"
    return pages


ELSEWHERE = _pages_elsewhere()


def _notebook(text: str) -> str:
    """A notebook in Markdown; it is kept without outputs."""
    sources = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
    parts = [f"```python\n{source}\n```" if kind == "code" else source for kind, source in sources]
    return "\n\n".join(parts) + "\n"


def _list_of_cards() -> str:
    rows = [
        f"| [{recipe.name}]({recipe.name}.md) | {recipe.model.stage} | {recipe.model.summary} |"
        for recipe in list_recipes()
        if f"models/{recipe.name}/README.md" in ELSEWHERE
    ]
    return "\n".join(["# Model cards", "", "| model | stage | |", "|---|---|---|", *rows, ""])


def _commands(command: click.Command, context: click.Context) -> Iterator[str]:
    """The reference of a command and of those below it, in Markdown, from what `--help` prints."""
    yield f"## {context.command_path}" if context.parent else "# Commands"
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        as_it_stands = paragraph.startswith("\b\n")
        yield f"```text\n{paragraph[2:]}\n```" if as_it_stands else paragraph
    yield f"```text\n{context.command_path} {' '.join(command.collect_usage_pieces(context))}\n```"
    options = [each for each in command.get_params(context) if isinstance(each, click.Option)]
    records = filter(None, (option.get_help_record(context) for option in options))
    rows = [f"| `{name}` | {text} |" for name, text in records]
    yield "\n".join(["| option | |", "|---|---|", *rows])
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if below := command.get_command(context, name):
                yield from _commands(below, click.Context(below, info_name=name, parent=context))


def _command_reference() -> str:
    return (
        "\n\n".join(
            _commands(main, click.Context(main, info_name="posepipe", **main.context_settings))
        )
        + "\n"
    )


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are not files of docs/."""
    for source, page in ELSEWHERE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        content = _notebook(text) if source.endswith(".ipynb") else text
        files.append(File.generated(config, page, content=content))
    files.append(File.generated(config, "models/index.md", content=_list_of_cards()))
    files.append(File.generated(config, "commands.md", content=_command_reference()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the page's links to files of the repository into links of the site."""
    here = page.file.src_uri
    source = next((file for file, uri in ELSEWHERE.items() if uri == here), f"docs/{here}")

    def on_site(match: re.Match[str]) -> str:
        if match["code"] or "://" in match["target"] or match["target"].startswith("#"):
            return match[0]
        path, _, anchor = match["target"].partition("#")
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        uri = ELSEWHERE.get(file, file.removeprefix("docs/") if file.startswith("docs/") else None)
        if uri is not None and files.get_file_from_path(uri) is not None:
            target = posixpath.relpath(uri, posixpath.dirname(here) or ".")
            return f"{match['text']}({target}{'#' if anchor else ''}{anchor})"
        return match["text"].strip("![]") if (ROOT / file).exists() else match[0]

    return _LINK.sub(on_site, markdown)
