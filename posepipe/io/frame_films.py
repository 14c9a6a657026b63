"""Films that FFmpeg does not read: pictures one after the other, and animated WebP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageSequence

from posepipe.errors import ImageError
from posepipe.io.films import Film, FilmOptions, Frame
from posepipe.io.images import ImageSet, rgb_pixels


class FilmOfPictures(Film):
    """A film whose frames are pictures, in the order in which they are given.

    A picture that cannot be read is left out and named in `problems`; its number and its time stay
    free.

    Args:
        images: at least one.
        rate: frames a second.
        options: which frames are taken.

    Raises:
        ImageError: the first picture that can be read has no size, or there is none.
    """

    def __init__(
        self, images: ImageSet, *, rate: float = 25.0, options: FilmOptions | None = None
    ) -> None:
        self._images = images
        self._rate = rate
        super().__init__(str(images.root), options or FilmOptions())

    def __post_init__(self) -> None:
        self.fps, self.count = self._rate, len(self._images)
        for image in self._images:
            try:
                self.size_wh = image.size_wh
            except ImageError:
                continue
            return
        raise ImageError(f"{self.source}: no picture in it can be read")

    @property
    def is_file(self) -> bool:
        """Pictures are files."""
        return True

    @property
    def sound(self) -> None:
        """Pictures are silent."""

    @property
    def folder(self) -> Path:
        """Where the pictures lie."""
        return self._images.root

    def frame_name(self, number: int) -> str:
        """The picture's own name."""
        return self._images.images[number].file_name

    def close(self) -> None:
        """Nothing is open."""

    def _decoded(self) -> Iterator[Frame]:
        for number, image in enumerate(self._images):
            seconds = number / self.fps
            if seconds < self.options.start - 1 / self.fps:
                continue
            try:
                pixels = image.read()
            except ImageError as error:
                self.problems.append(str(error))
                continue
            yield Frame(number, seconds, pixels)


class AnimatedPicture(Film):
    """An animated WebP, which Pillow reads.

    Raises:
        ImageError: there is no such file, or it is no WebP.
    """

    def __post_init__(self) -> None:
        try:
            with Image.open(self.source, formats=("WEBP",)) as picture:
                self.size_wh, self.count = picture.size, getattr(picture, "n_frames", 1)
                picture.load()
                self.fps = 1000 / (picture.info.get("duration") or 40)
        except FileNotFoundError:
            raise ImageError(f"{self.source}: no such file: check the path") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ImageError(f"{self.source}: is not a WebP, or is damaged: {error}") from None

    @property
    def sound(self) -> None:
        """Pictures are silent."""

    def close(self) -> None:
        """Nothing is open."""

    def _decoded(self) -> Iterator[Frame]:
        milliseconds = 0
        with Image.open(self.source, formats=("WEBP",)) as picture:
            for number, one in enumerate(ImageSequence.Iterator(picture)):
                try:
                    pixels = rgb_pixels(one.copy(), Path(self.source))
                except (ImageError, OSError, EOFError) as error:
                    self.problems.append(f"{self.source}: breaks off after frame {number}: {error}")
                    return
                yield Frame(number, milliseconds / 1000, pixels)
                milliseconds += one.info.get("duration") or 40
