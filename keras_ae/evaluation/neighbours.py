"""Nearest rows by Euclidean distance, in blocks: memory stays small, and the work is matrix products."""

from collections.abc import Iterator

import numpy as np

_BLOCK = 512


def nearest(rows: np.ndarray, among: np.ndarray, exclude: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Index (rows,) of the nearest row of `among` to each of `rows`, and its distance (rows,).

    Products in float32 can't tell rows apart that differ by less than about a thousandth of their length: of such rows
    any may be taken for the nearest. The distance to it is exact.

    Args:
        rows: float32, (rows, features).
        among: float32, (others, features), more than are excluded.
        exclude: (rows, any number): for each of `rows`, the indices in `among` that do not count, such as its own.
    """
    half_norms = np.einsum("ij,ij->i", among, among) / 2
    index = np.empty(len(rows), dtype="int64")
    for start in range(0, len(rows), _BLOCK):
        # |a - b|^2 is least where |b|^2 / 2 - a b is.
        block = half_norms - rows[start : start + _BLOCK] @ among.T
        if exclude is not None:
            np.put_along_axis(block, exclude[start : start + _BLOCK], np.inf, axis=1)
        index[start : start + _BLOCK] = block.argmin(axis=1)
    # From the differences, as products lose the digits of small distances.
    found = among[index].astype("float64")
    squared = np.square(rows - found).sum(axis=1)
    # The same row, scaled and projected in another batch, differs in its last digits.
    squared[squared < 1e-10 * np.square(found).sum(axis=1)] = 0.0
    return index, np.sqrt(squared)


def squared_distances(rows: np.ndarray, among: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared distances, float64, of each block of `rows` to all of `among`; what rounding made of 0 is 0."""
    among = among.astype("float64")
    norms = np.einsum("ij,ij->i", among, among)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, min(start + _BLOCK, len(rows)))
        block = rows[part].astype("float64")
        sums = np.einsum("ij,ij->i", block, block)[:, None] + norms
        squared = sums - 2 * block @ among.T
        squared[squared < 1e-12 * sums] = 0.0
        yield part, squared


def kth_squared_distance(rows: np.ndarray, k: int) -> np.ndarray:
    """Squared distance (rows,) of each row to its k-th nearest other row."""
    radii = np.empty(len(rows))
    for part, squared in squared_distances(rows, rows):
        squared[np.arange(len(squared)), np.arange(part.start, part.stop)] = np.inf
        radii[part] = np.partition(squared, k - 1, axis=1)[:, k - 1]
    return radii
