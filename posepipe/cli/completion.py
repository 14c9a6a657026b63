"""What a shell completes besides commands, options and choices, which click knows itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

if TYPE_CHECKING:
    from posepipe.zoo.recipe import StageName

Completion = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def models_of(stage: StageName | None = None) -> Completion:
    """Completes names of the zoo's models, of one stage or of both; what is none is a folder."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from posepipe.zoo.recipe import list_recipes

        found = [recipe for recipe in list_recipes(stage) if recipe.name.startswith(incomplete)]
        if not found:
            return [CompletionItem(incomplete, type="dir")]
        return [CompletionItem(recipe.name, help=recipe.model.summary) for recipe in found]

    return complete


def files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Completes files and folders, for arguments that may be something else, too."""
    return [CompletionItem(incomplete, type="file")]
