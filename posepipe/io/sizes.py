"""The sizes of images as their files have them, compared with those an annotation file gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from posepipe.errors import ImageError
from posepipe.io.findings import Finding, lost, noted
from posepipe.io.images import ImageFile, ImageSet
from posepipe.io.schema import ImageEntry

# Opening files is mostly waiting for a disk or a network.
THREADS = 16


@dataclass(frozen=True, eq=False)
class Sizes:
    """Images, compared with what an annotation file says about them.

    Attributes:
        images: the images; those of another size than their labels are for have a `problem`.
        sizes_wh: by image id, as the files' headers have it; as the annotation file has it where
            they cannot be read.
        findings: what is odd, one line each.
    """

    images: ImageSet
    sizes_wh: Mapping[int, tuple[int, int]]
    findings: tuple[Finding, ...]


def compare_sizes(
    images: ImageSet,
    listed: Sequence[ImageEntry],
    where: str,
    true_sizes: Sequence[tuple[int, int] | None] | None = None,
) -> Sizes:
    """Compare the sizes of images with those that their labels are for.

    Exchanged width and height are taken for a slip, since many programs make it, unless the
    image's EXIF data turn it on its side: then its labels are for the pixels as they lie in the
    file, and mean nothing on the upright image. Sizes of 0 or less mean "not known".

    Args:
        images: the images.
        listed: what the annotation file says of each, in the same order.
        where: the file's name, for the findings.
        true_sizes: of the images, None for those that cannot be read; read from the files'
            headers where they are not given.
    """
    if true_sizes is None:
        with ThreadPoolExecutor(THREADS) as pool:
            true_sizes = list(pool.map(_size_wh, images))
    exchanged, wrong, kept = [], [], []
    for image, entry, size_wh in zip(images, listed, true_sizes, strict=True):
        problem = ""
        if size_wh is not None and entry.has_size and size_wh != entry.size_wh:
            width, height = size_wh
            if entry.size_wh == (height, width) and not image.is_turned:
                exchanged.append(image.file_name)
            else:
                problem = f"is {width} x {height} pixels, its labels are for "
                problem += f"{entry.width} x {entry.height}"
                if entry.size_wh == (height, width):
                    problem += " (they leave out its EXIF orientation)"
                wrong.append(f"{image.file_name} {problem}")
        kept.append(replace(image, problem=problem) if problem else image)
    count = len(kept)
    findings = [
        *images.findings,
        *noted(
            where,
            "images whose width and height are exchanged in the file",
            exchanged,
            count,
            "the images' own are taken",
        ),
        *lost(where, "images of another size than their labels are for", wrong, count),
    ]
    said = {entry.id: entry.size_wh for entry in listed if entry.has_size}
    found = {i.id: size for i, size in zip(images, true_sizes, strict=True) if size is not None}
    return Sizes(ImageSet(images.root, tuple(kept)), said | found, tuple(findings))


def sizes_of(images: ImageSet) -> dict[int, tuple[int, int]]:
    """The sizes that the images' headers tell; a bad image is found out when it is read."""
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(_size_wh, images)
        return {image.id: size for image, size in zip(images, found, strict=True) if size}


def _size_wh(image: ImageFile) -> tuple[int, int] | None:
    try:
        return image.size_wh
    except ImageError:
        return None
