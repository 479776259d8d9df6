"""Folders and globs of images as rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.batches import BATCH_BYTES
from keras_ae.data.hashing import hashes_of_arrays
from keras_ae.data.shards import base_of
from keras_ae.data.streams import Chunk
from keras_ae.errors import InputError, importing, reading

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_TOGETHER = 256
"""Images of one unit."""
_GREY = ("1", "L")


@dataclass(frozen=True)
class ImageRows:
    """Images of one size as `keras_ae.data.streams.Reader`: uint8, (rows, height, width) if all are grey, or (rows,
    height, width, 3).

    Attributes:
        paths: of the files.
        shape: of an image.
        labels: names of the folders that they are in, or None.
    """

    paths: tuple[Path, ...]
    shape: tuple[int, ...]
    labels: tuple[str, ...] | None

    @property
    def units(self) -> list[str]:
        return ["\n".join(map(str, self._of(unit))) for unit in range(-(-len(self.paths) // _TOGETHER))]

    @property
    def files(self) -> int:
        return len(self.paths)

    @property
    def bytes(self) -> int:
        """In memory."""
        return len(self.paths) * int(np.prod(self.shape))

    def chunks(self, unit: int) -> Iterator[Chunk]:
        """Raises InputError for a file that is no image, or is not of that size, or not grey."""
        paths = self._of(unit)
        most = max(1, BATCH_BYTES // int(np.prod(self.shape)))
        for i in range(0, len(paths), most):
            x = np.stack([self._read(path) for path in paths[i : i + most]])
            start = unit * _TOGETHER + i
            y = None if self.labels is None else np.array(self.labels[start : start + len(x)], object)
            yield Chunk(x, hashes_of_arrays(x), y)

    def _of(self, unit: int) -> tuple[Path, ...]:
        return self.paths[unit * _TOGETHER : (unit + 1) * _TOGETHER]

    def _read(self, path: Path) -> np.ndarray:
        with _opened(path) as image:
            if (image.height, image.width) != self.shape[:2]:
                raise InputError(f"{path} must be of {self.shape[:2]}. Received: {(image.height, image.width)}.")
            is_grey = len(self.shape) == 2
            if is_grey and image.mode not in _GREY:
                raise InputError(f"{path} must be grey, as the images learned from. Received: {image.mode}.")
            return np.asarray(image.convert("L" if is_grey else "RGB"))


def images_of(source: Path, files: list[Path]) -> ImageRows:
    """The images of a folder or a glob, none of which is decoded yet. Where all are in folders below the one that is
    named, these are labels.

    Raises:
        InputError: for a file that is no image, one of more than 8 bits a channel, and images of two sizes.
        MissingExtra: without Pillow.
    """
    base = base_of(source)
    sizes, is_grey = [], True
    for file in files:
        with _opened(file) as image:
            mode, size = image.mode, (image.height, image.width)
        is_grey = is_grey and mode in _GREY
        sizes.append(size)
        if size != sizes[0]:
            raise InputError(
                f"All images of a folder must have one size. Received: {files[0].name} of {sizes[0]} "
                f"and {file.relative_to(base)} of {size}."
            )
    labelled = all(file.parent != base for file in files)
    labels = tuple(file.relative_to(base).parts[0] for file in files) if labelled else None
    return ImageRows(tuple(files), sizes[0] if is_grey else (*sizes[0], 3), labels)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An image of Pillow's; what goes wrong with it names the file."""
    with importing("Reading images", "images"):
        from PIL import Image
    with reading(path, "image"), Image.open(path) as image:
        if image.mode[0] in "IF":  # conversion would clip them
            raise InputError(
                f"{path} must have 8 bits a channel; deeper images can come as .npy. Received: {image.mode}."
            )
        yield image
