"""Weights by a model's name: beside its recipe, in the cache, or fetched into it on first use.

Four environment variables matter:

- ``POSEPIPE_CACHE``: the folder of fetched files; default ``$XDG_CACHE_HOME/posepipe``, else
  ``~/.cache/posepipe``. A model's file lies there as ``NAME/SLOT/FILE``; the slot is a digest of
  the URLs and checksums that its recipe states, so that no recipe fills that of another one.
- ``POSEPIPE_MIRROR``: a URL or folder laid out like a cache, which is tried before all others.
- ``POSEPIPE_OFFLINE``: anything but "", 0, false or no: nothing is ever fetched.
- ``POSEPIPE_PINS``: the file of pinned checksums; default ``$XDG_CONFIG_HOME/posepipe/pins.txt``,
  else ``~/.config/posepipe/pins.txt``.

**What a file is checked against.** What its recipe says (a SHA-256, or the beginning of one or of
an MD5); the pin, if there is one; and what its first fetch was: that SHA-256 is written beside the
file (``FILE.sha256``) and holds from then on. Pins and that record have the format of sha256sum, so
``sha256sum --check`` reads them as well.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from posepipe.errors import DownloadError, PosepipeError, WeightsError
from posepipe.io.checksums import sha256_of
from posepipe.io.jsonfiles import write_whole
from posepipe.zoo.connections import SCHEMES, Patience
from posepipe.zoo.downloads import Checks, Watcher, check_file, fetch, part_of
from posepipe.zoo.recipe import Recipe

Availability = Literal["ready", "cached", "can be fetched", "no weights"]

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")


def cache_folder() -> Path:
    """Where fetched files lie; it need not exist yet."""
    return _from_environment("POSEPIPE_CACHE", "XDG_CACHE_HOME", ".cache", "posepipe")


def pins_file() -> Path:
    """Where pinned checksums are written and looked for; it need not exist."""
    return _from_environment("POSEPIPE_PINS", "XDG_CONFIG_HOME", ".config", "posepipe/pins.txt")


def is_offline() -> bool:
    """Whether the environment says that nothing may be fetched."""
    return os.environ.get("POSEPIPE_OFFLINE", "").lower() not in ("", "0", "false", "no")


@dataclass(frozen=True)
class CachedWeights:
    """A model's weights file in the cache, whether it is there yet or not.

    Attributes:
        recipe: of the model; its table ``[weights]`` names at least one URL.
    """

    recipe: Recipe

    @property
    def key(self) -> str:
        """The file's place below the cache folder, and what pins call it."""
        table = self.recipe.weights
        stated = (self.recipe.model.weights_sha256, table.sha256_prefix, table.md5_prefix)
        slot = hashlib.sha256("\n".join([*stated, *table.urls]).encode()).hexdigest()[:32]
        return f"{self.recipe.name}/{slot}/{table.file_name}"

    @property
    def path(self) -> Path:
        """The file."""
        return cache_folder() / self.key

    @property
    def part(self) -> Path:
        """What an interrupted fetch left of it."""
        return part_of(self.path)

    @property
    def record(self) -> Path:
        """The SHA-256 that its first fetch had."""
        return self.path.with_name(f"{self.path.name}.sha256")

    @property
    def urls(self) -> tuple[str, ...]:
        """All places to look for it, in order: the mirror of the environment, then the recipe's."""
        mirror = os.environ.get("POSEPIPE_MIRROR", "")
        if not mirror:
            return self.recipe.weights.urls
        if mirror.partition("://")[0] not in SCHEMES:
            mirror = Path(mirror).absolute().as_uri()
        return (f"{mirror.rstrip('/')}/{quote(self.key)}", *self.recipe.weights.urls)

    def verified(self) -> str:
        """The SHA-256 of the file, which must be there.

        Raises:
            WeightsError: it is not the file that it was at first, that is pinned, or that the
                recipe means.
        """
        if _sums(self.record):
            digest = sha256_of(self.path)
        else:  # brought by hand: all that is known about it counts, as after a fetch
            try:
                digest = check_file(self.path, self._checks())
            except DownloadError as error:
                raise WeightsError(str(error)) from None
        for wanted, whose in self._known_sums():
            if not digest.startswith(wanted):
                raise WeightsError(
                    f"{self.path} has SHA-256 {digest[:12]}…, {whose} {wanted[:12]}…: it is "
                    "damaged or another file: remove it, then it is fetched again"
                )
        return digest

    def fetched(self, *, patience: Patience | None = None, watcher: Watcher | None = None) -> str:
        """Bring the file here if it is not, and check it; its SHA-256, which holds from then on.

        Args:
            patience: when to give up.
            watcher: called with the progress.

        Raises:
            DownloadError: it cannot be fetched; what has arrived is kept.
            WeightsError: it is another file than it was at first, than is pinned, or than the
                recipe means.
        """
        if not self.path.is_file():
            fetch(self.urls, self.path, checks=self._checks(), patience=patience, watcher=watcher)
        digest = self.verified()
        if not _sums(self.record):
            with suppress(PosepipeError):  # a file brought by hand into a folder that is read-only
                write_whole(self.record, [f"{digest}  {self.path.name}\n".encode()])
        return digest

    def pin(self, digest: str) -> Path:
        """Write the file's SHA-256 to the pins, from where it holds for every later fetch and use.

        Returns:
            The pins' file.

        Raises:
            DocumentError: it cannot be written.
            DownloadError: its folder cannot be made.
        """
        file = pins_file()
        pins = _sums(file) | {self.key: digest}
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DownloadError(f"{file.parent} cannot be made: {error.strerror}") from None
        write_whole(file, [f"{sha256}  {key}\n".encode() for key, sha256 in sorted(pins.items())])
        return file

    def _checks(self) -> Checks:
        """What is known about the file before it is fetched."""
        full = ((sha256, whose) for sha256, whose in self._known_sums() if len(sha256) == 64)
        sha256, whose = next(full, ("", ""))
        table = self.recipe.weights
        return Checks(
            sha256=sha256,
            sha256_from=f"{whose} so" if whose else "",
            sha256_prefix=table.sha256_prefix,
            md5_prefix=table.md5_prefix,
            # A file stated to have 100 MB may have 111; one without a stated size, 8 GB.
            max_bytes=int(table.megabytes * 1.1e6 + 1e6) if table.megabytes else 8 * 10**9,
        )

    def _known_sums(self) -> list[tuple[str, str]]:
        """The SHA-256, or the beginning of one, that the file must have, and who says so."""
        pinned = _sums(pins_file()).get(self.key, "")
        recorded = _sums(self.record).get(self.path.name, "")
        return [
            (self.recipe.model.weights_sha256, "its recipe says"),
            (self.recipe.weights.sha256_prefix, "its recipe says"),
            (pinned, f"{pins_file()} says"),
            (recorded, f"{self.record} says"),
        ]


def weights_at(recipe: Recipe) -> Path | None:
    """A model's weights file, if it is on this machine: beside the recipe, or else in the cache."""
    if recipe.has_weights:
        return recipe.weights_path
    if not recipe.weights.urls:
        return None
    cached = CachedWeights(recipe).path
    return cached if cached.is_file() else None


def state_of(recipe: Recipe) -> Availability:
    """Where a model's weights are: beside the recipe, in the cache, on the network, or nowhere."""
    if weights_at(recipe) is not None:
        return "ready" if recipe.has_weights else "cached"
    return "can be fetched" if recipe.weights.urls else "no weights"


def weights_by_name(
    recipe: Recipe,
    *,
    offline: bool | None = None,
    patience: Patience | None = None,
    watcher: Watcher | None = None,
) -> tuple[Path, str]:
    """A model's weights file and its SHA-256: beside the recipe, cached, or fetched.

    Args:
        recipe: the model's.
        offline: whether nothing may be fetched; None asks the environment.
        patience: of a fetch.
        watcher: of a fetch.

    Raises:
        WeightsError: there is none anywhere, or not the right one.
        DownloadError: it cannot be fetched, or may not be.
    """
    if recipe.has_weights or not recipe.weights.urls:
        return recipe.verified_weights()
    cached = CachedWeights(recipe)
    if cached.path.is_file():
        return cached.path, cached.verified()
    if is_offline() if offline is None else offline:
        raise DownloadError(
            f"model {recipe.name!r} is not in the cache and nothing may be fetched (--offline or "
            f"POSEPIPE_OFFLINE): bring {recipe.weights.urls[0]} by hand and put it at {cached.path}"
        )
    return cached.path, cached.fetched(patience=patience, watcher=watcher)


def _from_environment(own: str, xdg: str, default: str, below: str) -> Path:
    if chosen := os.environ.get(own):
        return Path(chosen).expanduser()
    base = os.environ.get(xdg)
    return (Path(base) if base else Path.home() / default) / below


def _sums(file: Path) -> dict[str, str]:
    """The checksums of a file in sha256sum's format, by name; none where there is no such file.

    Raises:
        WeightsError: it cannot be read, or has another format: it must not be ignored.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except NotADirectoryError:
        raise WeightsError(
            f"{file.parent} is not a folder: name one that is, or may be made, as cache or for pins"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"{file} cannot be read: {error}: mend or remove it") from None
    sums = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = _LINE.fullmatch(line)
        if parts is None:
            raise WeightsError(
                f"{file}, line {number} is not a checksum: 64 hexadecimal digits, two spaces "
                "and a name, as sha256sum writes them"
            )
        sums[parts[2]] = parts[1]
    return sums
