"""The files of the page, each made when it is asked for, or all of them written as a folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from posepipe.errors import ImageError
from posepipe.io.folders import folder_whole
from posepipe.viewing.content import Content, script

PAGE = Path(__file__).parent / "page"
THUMBNAIL = 256  # pixels of the longer side
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".jpg": "image/jpeg",
}
_PAGE_FILES = ("draw.js", "index.html", "large.js", "view.css", "view.js")
_NUMBERED = re.compile(r"(people|thumbnails|images)/([0-9]{1,9})\.(js|jpg)")


class Site:
    """The page of some content.

    Images are named by number, never by path: whoever asks gets nothing but what the content
    holds.
    """

    def __init__(self, content: Content) -> None:
        self._content = content
        self._index = script("posepipe", self._with_addresses())

    def routes(self) -> list[str]:
        """The names of all files."""
        numbers = range(len(self._content.images))
        return [
            *_PAGE_FILES,
            "index.js",
            *(f"people/{number}.js" for number in numbers),
            *(
                f"{folder}/{number}.jpg"
                for folder in ("thumbnails", "images")
                for number in numbers
            ),
        ]

    def file(self, route: str) -> bytes | None:
        """The content of a file, such as "index.html" or "thumbnails/12.jpg"; None if none.

        An image that cannot be read is a grey one.
        """
        if route == "index.js":
            return self._index
        if route in _PAGE_FILES:
            return (PAGE / route).read_bytes()
        match = _NUMBERED.fullmatch(route)
        if match is None or int(match[2]) >= len(self._content.images):
            return None
        folder, number, suffix = match[1], int(match[2]), match[3]
        if (folder == "people") != (suffix == "js"):
            return None
        if folder == "people":
            return script("posepipePeople", self._content.people(number), number)
        return _jpeg(self._pixels(number), THUMBNAIL if folder == "thumbnails" else None)

    def _with_addresses(self) -> dict[str, object]:
        sizes_wh = []
        for number, image in enumerate(self._content.images):
            try:
                sizes_wh.append(image.size_wh)
            except ImageError:
                height, width = self._pixels(number).shape[:2]
                sizes_wh.append((width, height))
        index = self._content.index(sizes_wh)
        for number, entry in enumerate(index["pictures"]):
            entry["thumbnail"] = f"thumbnails/{number}.jpg"
            entry["image"] = f"images/{number}.jpg"
            entry["people"] = f"people/{number}.js"
        return index

    def _pixels(self, number: int) -> npt.NDArray[np.uint8]:
        try:
            return self._content.images[number].read()
        except ImageError:
            boxes = self._content.poses[number].boxes_xyxy
            width, height = np.ceil(boxes[:, 2:].max(axis=0, initial=64)).clip(64, 4096).astype(int)
            return np.full((height, width, 3), 96, np.uint8)


def _jpeg(pixels: npt.NDArray[np.uint8], longest: int | None) -> bytes:
    """RGB pixels as JPEG, made smaller if the longer side exceeds `longest` pixels."""
    height, width = pixels.shape[:2]
    scale = 1.0 if longest is None else min(1.0, longest / max(height, width))
    if scale < 1:
        size_wh = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = cv2.resize(pixels, size_wh, interpolation=cv2.INTER_AREA).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, 80 if scale < 1 else 92]
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), quality)
    return encoded.tobytes()


def write_site(
    site: Site, folder: Path, *, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Write the page as a folder of files that opens without a server: `folder/index.html`.

    The folder appears with all files or not at all.

    Args:
        site: the page.
        folder: absent or empty.
        progress: called with 1 after every file.

    Raises:
        DocumentError: the folder cannot be made, or is not empty.
    """
    with folder_whole(folder) as temporary:
        for route in site.routes():
            file = temporary / route
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(site.file(route) or b"")
            progress(1)
