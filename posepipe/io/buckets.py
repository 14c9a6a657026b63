"""Images in object stores and on web servers, named by URLs; fsspec lists and reads them.

They are read by whoever works on them, one at a time, and never copied as a whole.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from posepipe.errors import ImageError, MissingDependencyError
from posepipe.io.images import IMAGE_SUFFIXES, LIST_SUFFIX, ImageFile, ImageSet
from posepipe.io.order import ids_of, listed, natural_order

T = TypeVar("T")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_PATTERN = re.compile(r"[*?[]")
_SECONDS_BEFORE_AGAIN = (0.5, 2.0)


def is_url(text: str) -> bool:
    """Whether a name is a URL of something that is not a file of this machine.

    >>> is_url("s3://bucket/photos"), is_url("C:/photos")
    (True, False)
    """
    scheme = _SCHEME.match(text)
    return scheme is not None and scheme[1].lower() != "file"


def path_of(text: str) -> str:
    """The path that a file:// URL stands for; anything else as it is.

    >>> path_of("photos/a.jpg")
    'photos/a.jpg'
    """
    return url2pathname(urlsplit(text).path) if text.lower().startswith("file://") else text


def shown(url: str) -> str:
    """A URL as messages and documents name it, without passwords and signatures.

    >>> shown("https://me:secret@host/a.jpg?signature=1"), shown("s3://bucket/what?.jpg")
    ('https://host/a.jpg', 's3://bucket/what?.jpg')
    """
    scheme, rest = url.split("://", 1)
    host, slash, path = rest.partition("/")
    if scheme.lower() in ("http", "https"):
        path = path.partition("?")[0]
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def read_url(url: str) -> bytes:
    """The bytes of a file; it is tried three times.

    Raises:
        ImageError: there is no such file, or it cannot be fetched.
        MissingDependencyError: what reads such URLs is not installed.
    """
    system, path = _opened(url)
    return bytes(_tried(lambda: system.cat_file(path), url))


def find_in_buckets(urls: Sequence[str], *, recursive: bool = False) -> ImageSet:
    """The images that URLs of folders, files, patterns and lists lead to.

    As `posepipe.io.find_images.find_images`, with these differences: whether a file that is named
    by its URL exists is found out when it is read; a web server's folder is what its index page
    links to, and ends with a slash.

    Args:
        urls: the URLs.
        recursive: whether folders inside folders are searched as well.

    Raises:
        ImageError: none leads to an image, or they are in several buckets.
        MissingDependencyError: what reads such URLs is not installed.
    """
    found: dict[str, None] = {}
    dead_ends: dict[str, str] = {}
    for url in urls:
        try:
            leads_to = dict.fromkeys(_look_up(url, recursive))
            found |= leads_to
            if not leads_to:
                dead_ends[url] = "there are no images (.jpg, .png, …)"
        except ImageError as error:
            dead_ends[url] = str(error).removeprefix(shown(url)).lstrip(": ")
    if not found:
        url, problem = next(iter(dead_ends.items()))
        raise ImageError(f"{shown(url)}: {problem}: check the URL")
    root = _common_folder(map(shown, found))
    named = sorted(((_below(root, url), url) for url in found), key=lambda n: natural_order(n[0]))
    ids = ids_of([name for name, _ in named])
    images = [
        ImageFile(number, Path(shown(url)), name, url=url)
        for number, (name, url) in zip(ids, named, strict=True)
    ]
    images += [
        ImageFile(number, Path(shown(url)), shown(url), problem=problem, url=url)
        for number, (url, problem) in enumerate(sorted(dead_ends.items()), start=max(ids) + 1)
    ]
    return ImageSet(Path(root), tuple(images), url=root)


def _look_up(url: str, recursive: bool) -> Iterator[str]:
    """The URLs of the images that one input leads to."""
    name = shown(url).rpartition("/")[2]
    suffix = PurePosixPath(name).suffix.lower()
    web = url.lower().startswith(("http://", "https://"))
    if _PATTERN.search(url) and not (web and "?" in url):
        system, path = _opened(url)
        found = _tried(lambda: system.glob(path, detail=True), url)
        yield from _urls(system, (entry for entry in found.values() if entry["type"] == "file"))
    elif suffix in IMAGE_SUFFIXES:
        yield url
    elif suffix == LIST_SUFFIX:
        folder = url.rpartition("/")[0]
        for entry in listed(read_url(url).decode("utf-8-sig", "replace")):
            yield entry if is_url(entry) else f"{folder}/{entry}"
    else:
        yield from _in_folder(url, recursive)


def _in_folder(url: str, recursive: bool) -> Iterator[str]:
    system, path = _opened(url)
    if recursive:
        entries = _tried(lambda: list(system.find(path, detail=True).values()), url)
    else:
        entries = _tried(lambda: system.ls(path, detail=True), url)
    for address in _urls(system, (entry for entry in entries if entry["type"] == "file")):
        name = PurePosixPath(shown(address)).name
        if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
            yield address


def _urls(system: Any, entries: Iterable[dict[str, Any]]) -> Iterator[str]:
    return (system.unstrip_protocol(entry["name"]) for entry in entries)


def _opened(url: str) -> tuple[Any, str]:
    """What fsspec reads a URL with, and its path there."""
    from fsspec.core import url_to_fs

    try:
        system, path = url_to_fs(url)
    except ImportError as error:
        raise MissingDependencyError(
            f"{shown(url)} cannot be read without a further package ({_reason(error)}): "
            "pip install 'posepipe[buckets]'"
        ) from None
    except Exception as error:
        raise ImageError(f"{shown(url)} cannot be opened ({_reason(error)})") from None
    return system, path


def _tried(call: Callable[[], T], url: str) -> T:
    """What a call to a server gives; servers raise anything."""
    for seconds in (*_SECONDS_BEFORE_AGAIN, None):
        try:
            return call()
        except (FileNotFoundError, NotADirectoryError):
            raise ImageError(f"{shown(url)}: no such file or folder") from None
        except Exception as error:
            if seconds is None or isinstance(error, PermissionError):
                raise ImageError(f"{shown(url)} cannot be fetched ({_reason(error)})") from None
        time.sleep(seconds)
    raise AssertionError


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _common_folder(urls: Iterable[str]) -> str:
    """The URL of the folder that all are in.

    >>> _common_folder(["s3://bucket/a/1.jpg", "s3://bucket/b/2.jpg"])
    's3://bucket'
    """
    folders = [url.split("/")[:-1] for url in urls]
    parts = folders[0]
    for other in folders[1:]:
        same = (n for n, (a, b) in enumerate(zip(parts, other, strict=False)) if a != b)
        parts = parts[: next(same, min(len(parts), len(other)))]
    if len(parts) < 3:  # "s3:", "", "bucket"
        raise ImageError("the images are in several buckets: name those of one at a time")
    return "/".join(parts)


def _below(root: str, url: str) -> str:
    name = shown(url).removeprefix(root).lstrip("/")
    return unquote(name) if url.lower().startswith("http") else name
