"""Videos that FFmpeg does not read: images one after the other, and animated WebP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageSequence

from posepipe.errors import ImageError
from posepipe.io.images import ImageSet, rgb_pixels
from posepipe.io.videos import Frame, Video, VideoOptions


class VideoOfImages(Video):
    """A video whose frames are images, in the order in which they are given.

    An image that cannot be read is left out and named in `problems`; its number and its time stay
    free.

    Args:
        images: at least one.
        rate: frames a second.
        options: which frames are taken.

    Raises:
        ImageError: the first image that can be read has no size, or there is none.
    """

    def __init__(
        self, images: ImageSet, *, rate: float = 25.0, options: VideoOptions | None = None
    ) -> None:
        self._images = images
        self._rate = rate
        super().__init__(str(images.root), options or VideoOptions())

    def __post_init__(self) -> None:
        self.fps, self.count = self._rate, len(self._images)
        for image in self._images:
            try:
                self.size_wh = image.size_wh
            except ImageError:
                continue
            return
        raise ImageError(f"{self.source}: no image in it can be read")

    @property
    def is_file(self) -> bool:
        """Images are files."""
        return True

    @property
    def sound(self) -> None:
        """Images are silent."""

    @property
    def folder(self) -> Path:
        """Where the images lie."""
        return self._images.root

    def frame_name(self, number: int) -> str:
        """The image's own name."""
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


class AnimatedImage(Video):
    """An animated WebP, which Pillow reads.

    Raises:
        ImageError: there is no such file, or it is no WebP.
    """

    def __post_init__(self) -> None:
        try:
            with Image.open(self.source, formats=("WEBP",)) as image:
                self.size_wh, self.count = image.size, getattr(image, "n_frames", 1)
                image.load()
                self.fps = 1000 / (image.info.get("duration") or 40)
        except FileNotFoundError:
            raise ImageError(f"{self.source}: no such file: check the path") from None
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise ImageError(f"{self.source}: is not a WebP, or is damaged: {error}") from None

    @property
    def sound(self) -> None:
        """Images are silent."""

    def close(self) -> None:
        """Nothing is open."""

    def _decoded(self) -> Iterator[Frame]:
        milliseconds = 0
        with Image.open(self.source, formats=("WEBP",)) as image:
            for number, one in enumerate(ImageSequence.Iterator(image)):
                try:
                    pixels = rgb_pixels(one.copy(), Path(self.source))
                except (ImageError, OSError, EOFError) as error:
                    self.problems.append(f"{self.source}: breaks off after frame {number}: {error}")
                    return
                yield Frame(number, milliseconds / 1000, pixels)
                milliseconds += one.info.get("duration") or 40
