"""Which images are meant: by folders, files, patterns and lists."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from posepipe.errors import ImageError
from posepipe.io.buckets import find_in_buckets, is_url, path_of
from posepipe.io.findings import Finding
from posepipe.io.images import IMAGE_SUFFIXES, LIST_SUFFIX, ImageFile, ImageSet
from posepipe.io.order import ids_of, listed, natural_order


def find_images(inputs: Sequence[str | Path], *, recursive: bool = False) -> ImageSet:
    """The images that folders, files, patterns, lists and URLs lead to, in natural order of names.

    A folder gives the files in it that have a known suffix, hidden ones left out. A file that is
    named explicitly, by a pattern or by a list is taken whatever its suffix. A text file (.txt)
    lists one path per line, relative to itself; blank lines and lines that begin with # do not
    count. An image that several inputs lead to comes once.

    Ids are the COCO ids where every name carries one (000000001490.jpg, or
    COCO_val2014_000000001490.jpg) and they differ, else 1…n in order.

    An input that leads nowhere (a missing file, an empty folder, a pattern without a match) becomes
    an item at the end whose `read` raises, so that the others are still processed and it is listed
    with what was left out. So does a file whose name is not text, a link that leads nowhere, a
    device or pipe with an image's name, and a folder that may not be searched. Other kinds of files
    in a folder are passed over; a finding counts them.

    Args:
        inputs: paths or patterns (`*`, `?`, `[…]`, `**` for any depth); or URLs of object stores
            and web servers (`posepipe.io.buckets.find_in_buckets`).
        recursive: whether folders inside folders are searched as well.

    Raises:
        ImageError: no input at all, none that leads to an image, or URLs and paths together.
        MissingDependencyError: what reads such URLs is not installed.
    """
    texts = [text for given in inputs for text in _urls_in(path_of(str(given)))]
    urls = [text for text in texts if is_url(text)]
    if urls and len(urls) < len(texts):
        raise ImageError(
            "some of the images have URLs, others are files of this machine: name either"
        )
    if urls:
        return find_in_buckets(urls, recursive=recursive)
    passed_over: Counter[str] = Counter()
    looked_up = (_look_up(text, recursive, passed_over) for text in texts)
    finds = [_printable(find) for finds in looked_up for find in finds]
    found = [find for find in finds if find.exists]
    if not found:
        if not finds:
            raise ImageError("no images were named: give folders, files, patterns or a list")
        more = f" (and {len(finds) - 1} more inputs lead nowhere)" if len(finds) > 1 else ""
        raise ImageError(_no_such(finds[0]) + more)
    root = _common_folder({find.base for find in found})
    images: dict[Path, ImageFile] = {}
    resolved_folder = cache(_resolved)  # the costly part, needed once per folder
    for find in finds:
        path = find.path
        true_path = _resolved(path) if _is_link(path) else resolved_folder(path.parent) / path.name
        name = _relative_name(path, root)
        images.setdefault(true_path, ImageFile(0, path, name, problem=find.problem))
    readable = sorted((i for i in images.values() if not i.problem), key=_by_name)
    dead_ends = sorted((i for i in images.values() if i.problem), key=_by_name)
    ids = ids_of([image.file_name for image in readable])
    ids += range(max(ids) + 1, max(ids) + 1 + len(dead_ends))
    return ImageSet(
        root,
        tuple(
            replace(image, id=number)
            for image, number in zip(readable + dead_ends, ids, strict=True)
        ),
        _about(passed_over, root),
    )


@dataclass(frozen=True, slots=True)
class _Find:
    """A path that an input leads to."""

    path: Path  # absolute
    base: Path  # the folder that file names start from, as far as this input is concerned
    exists: bool = True
    problem: str = ""


def _look_up(text: str, recursive: bool, passed_over: Counter[str]) -> list[_Find]:
    path = _absolute(Path(text))
    try:
        return _look_up_path(text, path, recursive, passed_over)
    except OSError as error:  # a folder on the way may not be searched, a name is too long, …
        return [_dead_end(path, f"cannot be looked up ({error.strerror})")]


def _look_up_path(text: str, path: Path, recursive: bool, passed_over: Counter[str]) -> list[_Find]:
    if path.is_dir():
        return _in_folder(path, recursive, passed_over)
    if path.suffix.lower() == LIST_SUFFIX and path.is_file():
        return _in_list(path)
    if path.exists():
        return [_Find(path, path.parent)]
    if glob.has_magic(text):
        # Path.glob takes no absolute patterns.
        found = glob.glob(os.path.expanduser(text), recursive=True)  # noqa: PTH111, PTH207
        matches = [_absolute(Path(match)) for match in found]
        finds = [_Find(match, match.parent) for match in matches if match.is_file()]
        for folder in (match for match in matches if match.is_dir()):
            finds += [find for find in _in_folder(folder, recursive, passed_over) if find.exists]
        return finds or [_dead_end(path, "no file matches this pattern")]
    return [_missing(path)]


def _in_folder(folder: Path, recursive: bool, passed_over: Counter[str]) -> list[_Find]:
    others: Counter[str] = Counter()
    finds = list(_files_of(folder, folder, recursive, others))
    passed_over += others
    if finds:
        return finds
    has_folders = not recursive and any(entry.is_dir() for entry in folder.iterdir())
    where = "; there are folders in it: search them with --recursive" if has_folders else ""
    kinds = f"; files of other kinds: {_by_suffix(others)}" if others else ""
    return [_dead_end(folder, f"a folder without images (.jpg, .png, …){kinds}{where}")]


def _files_of(
    folder: Path, base: Path, recursive: bool, passed_over: Counter[str]
) -> Iterator[_Find]:
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        if folder == base:
            raise
        yield _dead_end(folder, f"a folder that may not be searched ({error.strerror})")
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        suffix = entry.suffix.lower()
        if entry.is_file():
            if suffix in IMAGE_SUFFIXES:
                yield _Find(entry, base)
            else:
                passed_over[suffix] += 1
        elif suffix in IMAGE_SUFFIXES and not entry.is_dir():
            what = "a device or pipe" if entry.exists() else "a link that leads nowhere"
            yield _dead_end(entry, what)
        elif recursive and entry.is_dir() and not entry.is_symlink():  # a link may lead back up
            yield from _files_of(entry, base, recursive, passed_over)


def _about(passed_over: Counter[str], root: Path) -> tuple[Finding, ...]:
    if not passed_over:
        return ()
    what = f"files that are not images ({_by_suffix(passed_over)})"
    return (Finding(False, str(root), what, passed_over.total(), then="passed over"),)


def _by_suffix(counts: Counter[str]) -> str:
    """How many files of which kind, the most frequent first.

    >>> _by_suffix(Counter({".json": 1, ".txt": 12, "": 2}))
    '12 .txt, 2 without a suffix, 1 .json'
    """
    listed = [f"{n} {suffix or 'without a suffix'}" for suffix, n in counts.most_common(6)]
    return ", ".join(listed) + (", …" if len(counts) > 6 else "")


def _printable(find: _Find) -> _Find:
    """The find, or a dead end where its name is not text: no document could hold it."""
    text = str(find.path)
    try:
        text.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(text).decode("utf-8", "backslashreplace")
        return _dead_end(Path(shown), "its name is not UTF-8: rename it")
    return find


def _urls_in(text: str) -> list[str]:
    """What a list of URLs names; anything else as it is."""
    path = Path(text)
    try:
        named = _named_in(path) if path.suffix.lower() == LIST_SUFFIX and path.is_file() else []
    except (OSError, UnicodeDecodeError):  # said when it is looked up
        named = []
    return named if any(map(is_url, named)) else [text]


def _named_in(path: Path) -> list[str]:
    return listed(path.read_text(encoding="utf-8-sig"))


def _in_list(path: Path) -> list[_Find]:
    try:
        named = _named_in(path)
    except (OSError, UnicodeDecodeError) as error:
        return [_dead_end(path, f"the list cannot be read as UTF-8 text: {error}")]
    paths = [_absolute(path.parent / name) for name in named]
    finds = [_listed(file) for file in paths]
    return finds or [_dead_end(path, "a list that names no images")]


def _listed(file: Path) -> _Find:
    try:
        return _Find(file, file.parent) if file.exists() else _missing(file)
    except OSError as error:  # a name is too long, a folder may not be searched, …
        return _dead_end(file, f"cannot be looked up ({error.strerror})")


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # loops of links, names too long or with NUL
        return path


def _is_link(path: Path) -> bool:
    try:
        return path.is_symlink()
    except OSError:
        return False


def _missing(path: Path) -> _Find:
    if _is_link(path):
        return _dead_end(path, "a link that leads nowhere")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _Find(path, path.parent, exists=False)  # an item like others, until it is read
    return _dead_end(path, "no such file or folder")


def _dead_end(path: Path, problem: str) -> _Find:
    return _Find(path, path.parent, exists=False, problem=problem)


def _no_such(find: _Find) -> str:
    return f"{find.path}: {find.problem or 'no such file'}: check the path"


def _absolute(path: Path) -> Path:
    # Not resolve(): an image keeps the name that the user knows, links included.
    return Path(os.path.abspath(path.expanduser()))  # noqa: PTH100


def _common_folder(folders: set[Path]) -> Path:
    try:
        return Path(os.path.commonpath(folders))
    except ValueError:  # Windows
        raise ImageError(
            "the images lie on different drives: name those of one drive at a time"
        ) from None


def _relative_name(path: Path, root: Path) -> str:
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def _by_name(image: ImageFile) -> tuple[list[tuple[int, str]], str]:
    return natural_order(image.file_name)
