"""Rows as the numbers see them: flat, finite, and in units in which distances mean something."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from keras_ae.data.preprocessing import scales
from keras_ae.errors import InputError

_BLOCK = 4096


def flat(name: str, rows: np.ndarray, features: int | None = None, least: int = 1) -> np.ndarray:
    """Rows (rows, ...) as float32 (rows, features).

    Raises:
        InputError: for too few rows, another number of features, or numbers that are not finite.
    """
    rows = np.asarray(rows)
    if rows.ndim < 2 or rows.dtype.kind not in "biuf":
        raise InputError(f"`{name}` must be numbers (rows, ...). Received: {rows.dtype} of shape {rows.shape}.")
    if len(rows) < least:
        raise InputError(f"`{name}` must have at least {least} rows. Received: {len(rows)}.")
    flattened = rows.reshape(len(rows), -1).astype("float32", copy=False)
    if features is not None and flattened.shape[1] != features:
        raise InputError(f"`{name}` must have {features} features, as `train`. Received: {flattened.shape[1]}.")
    if not all(np.isfinite(block).all() for block in blocks(flattened)):
        raise InputError(f"`{name}` must be finite. Received: NaN or infinite numbers.")
    return flattened


def per_row(name: str, values: np.ndarray, rows: int, of: str) -> np.ndarray:
    """Values (rows,), one for each row of `of`.

    Raises:
        InputError: for another shape, or numbers that are not finite.
    """
    values = np.asarray(values)
    if values.shape != (rows,):
        raise InputError(f"`{name}` must have one value for each of the {rows} rows of `{of}`. "
                         f"Received: shape {values.shape}.")  # fmt: skip
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"`{name}` must be finite. Received: NaN or infinite numbers.")
    return values


def blocks(*arrays: np.ndarray) -> Iterator[np.ndarray]:
    """Each array in pieces of a few thousand rows, so that no temporary is as large as the data."""
    for array in arrays:
        for start in range(0, len(array), _BLOCK):
            yield array[start : start + _BLOCK]


@dataclass(frozen=True)
class Units:
    """(x - shift) / scale, fitted on the training rows.

    Attributes:
        shift: mean of each feature, (features,).
        scale: (features,), positive; the same for all where features share a unit, as pixels do (`share_a_unit`), else
            each feature's own deviation.
        shared: which of the two.
    """

    shift: np.ndarray
    scale: np.ndarray
    shared: bool

    @classmethod
    def fit(cls, train: np.ndarray) -> "Units":
        """From training rows (rows, features)."""
        mean = train.mean(axis=0, dtype="float64")
        squares = sum(np.square(block - mean).sum(axis=0) for block in blocks(train))
        deviation = np.sqrt(squares / len(train))
        scale, shared, constant = scales(mean, deviation)
        if len(constant) == len(mean):
            raise InputError(f"`train` must have rows that differ. Received: {len(train)} rows that are all the same.")
        return cls(mean.astype("float32"), scale.astype("float32"), shared)

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        scaled = rows - self.shift
        scaled /= self.scale
        return scaled

    def undo(self, scaled: np.ndarray) -> np.ndarray:
        """Scaled rows in the units of the data."""
        return scaled * self.scale + self.shift

    def log_volume(self) -> float:
        """Sum of log scale over features: nats to add to an NLL of scaled rows to make it one of raw rows."""
        return float(np.log(self.scale.astype("float64")).sum())
