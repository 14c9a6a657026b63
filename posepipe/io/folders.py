"""Folders written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from posepipe.errors import DocumentError
from posepipe.io.jsonfiles import cannot_write, sync_folder, temporary_of
from posepipe.io.locks import output_held


def check_new_folder(folder: Path) -> None:
    """Check that a folder could be made here; an empty one in its place is fine.

    Raises:
        DocumentError: there is something already, no folder to hold it, or one that takes no files.
    """
    if folder.is_dir():
        if any(folder.iterdir()):
            raise DocumentError(f"{folder} already exists and is not empty: name another folder")
    elif folder.exists() or folder.is_symlink():
        raise DocumentError(f"{folder} exists and is not a folder: name another one")
    elif not folder.parent.is_dir():
        raise DocumentError(
            f"{folder} cannot be written: there is no folder {folder.parent}: make it"
        )
    try:
        with TemporaryFile(dir=folder.resolve().parent):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from None


def write_folder_whole(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files so that it appears with all of them or not at all.

    The files go to a temporary folder beside it, which takes its name once they are safely on the
    disk.

    Args:
        folder: absent or empty.
        files: contents by name.

    Raises:
        DocumentError: see `check_new_folder`; no permission, disk full.
    """
    with folder_whole(folder) as temporary:
        for name, content in files.items():
            with (temporary / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        sync_folder(temporary)


@contextmanager
def folder_whole(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` to write into, which takes its name when the block ends.

    Where the block ends with an error nothing is left.

    Args:
        folder: absent or empty.

    Raises:
        DocumentError: see `check_new_folder`; no permission, disk full, or another process is
            writing the same folder.
    """
    check_new_folder(folder)
    target = folder.resolve()
    temporary = temporary_of(target)
    try:
        with output_held(folder):
            try:
                temporary.mkdir()
                yield temporary
                if target.is_dir():
                    target.rmdir()  # an empty one, which Windows does not replace
                temporary.replace(target)
            except BaseException:
                shutil.rmtree(temporary, ignore_errors=True)
                raise
            sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(folder, error) from None
