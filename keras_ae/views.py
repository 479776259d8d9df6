"""How observations and latents are shown: as images, curves or profiles; on a plane."""

from typing import Any

import numpy as np

_LONG = 4
"""Times as long as the other, an axis is time: no image is so narrow."""


def plane(z: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Mean (n,), first two principal components (2, n) of z, and their shares of its variance. One that is not there
    is zeros.
    """
    mean = z.mean(axis=0, dtype="float64")
    _, values, vectors = np.linalg.svd(z - mean, full_matrices=False)
    components = np.zeros((2, z.shape[1]))
    components[: len(vectors)] = vectors[:2]
    largest = np.abs(components).argmax(axis=1)
    components *= np.where(components[[0, 1], largest] < 0, -1, 1)[:, None]  # a sign that no library decides
    variances = np.square(values)
    total = max(float(variances.sum()), 1e-30)
    return mean, components, [float(v) / total for v in [*variances[:2], 0.0][:2]]


def view(
    shape: tuple[int, ...], columns: tuple[str, ...] | None, flat: np.ndarray, channels: tuple[str, ...] = ()
) -> dict[str, Any]:
    """How an observation is shown: as curves of channels where the first of two axes is time, that of a window or one
    much longer than the other; as an image of two or three axes, channels last; as a table of named columns; as an
    image where a vector is one written out row by row; as a curve else.
    """
    if channels or (len(shape) == 2 and shape[1] * _LONG <= shape[0]):
        names = list(channels) or [f"channel {i}" for i in range(shape[1])]
        return {"kind": "channels", "names": names, "length": shape[0]}
    if len(shape) in (2, 3) and (len(shape) == 2 or shape[2] in (1, 3)):
        return {"kind": "image", "height": shape[0], "width": shape[1], "channels": shape[2] if len(shape) == 3 else 1}
    if columns is not None:
        return {"kind": "table"}
    side = int(np.sqrt(flat.shape[1]))
    if len(shape) == 1 and side >= 4 and side * side == flat.shape[1] and _is_image(flat, side):
        return {"kind": "image", "height": side, "width": side, "channels": 1}
    return {"kind": "curve"}


def _is_image(flat: np.ndarray, side: int) -> bool:
    """Whether each pixel resembles the one below it (correlation over 0.2), and more so than the one half a width on,
    which is nearer in a signal.
    """
    below, half = (_correlation(flat[:, :-lag], flat[:, lag:]) for lag in (side, side // 2))
    return below > 0.2 and below > half


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over features of the correlation over rows, where both move."""
    a, b = (part - part.mean(axis=0, dtype="float64") for part in (a, b))
    product = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    moving = product > 0
    return float(((a * b).sum(axis=0)[moving] / product[moving]).mean()) if moving.any() else 0.0
