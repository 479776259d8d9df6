"""Folders of images as rows."""

from pathlib import Path

import numpy as np

from keras_ae.data.tables import Rows
from keras_ae.errors import InputError, MissingExtra

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


def read_images(folder: Path) -> Rows:
    """Images of one size as uint8 (rows, height, width) if all are grey, (rows, height, width, 3) if not."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("A folder of images", "train") from error
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise InputError(f"{folder} must hold images ({', '.join(IMAGE_ENDINGS)}). Received: none.")
    images: list[np.ndarray] = []
    for file in files:
        try:
            with Image.open(file) as image:
                mode = image.mode
                images.append(np.asarray(image.convert("L" if mode in ("1", "L") else "RGB")))
        except Exception as error:  # what Pillow raises for damaged bytes has no common base
            raise InputError(f"{file} is not a readable image: {error}") from error
        if mode[0] in "IF":  # conversion would clip them
            raise InputError(f"{file} must have 8 bits a channel; deeper images can come as .npy. Received: {mode}.")
        if images[-1].shape[:2] != images[0].shape[:2]:
            raise InputError(
                f"All images of a folder must have one size. Received: {files[0].name} of {images[0].shape[:2]} "
                f"and {file.relative_to(folder)} of {images[-1].shape[:2]}."
            )
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1) for image in images]
    labelled = all(file.parent != folder for file in files)
    labels = np.array([file.relative_to(folder).parts[0] for file in files]) if labelled else None
    return Rows(np.stack(images), labels)
