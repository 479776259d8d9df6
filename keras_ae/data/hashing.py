"""A hash for each row, of its cells alone: the same in any file, at any place, and whatever other rows there are."""

import hashlib
from typing import Any

import numpy as np

from keras_ae.data.cells import Cells, Coded
from keras_ae.data.schema import Schema
from keras_ae.data.values import listed, number_of

_MISSING = np.uint64(0x9E3779B97F4A7C15)


def hashes_of_cells(cells: Cells, schema: Schema, x: np.ndarray) -> np.ndarray:
    """Hashes (rows,), uint64, of the cells in the columns of a schema, whose order does not matter.

    The sum over columns of a 64-bit odd factor, that of the column's name, times the cell (multilinear hashing, Carter
    and Wegman 1979), mixed by the last step of splitmix64 (Steele et al. 2014). A number counts as its float32.

    Args:
        cells: of a table.
        schema: of the columns.
        x: the cells by `schema.encode`, (rows, columns): in numeric columns these are the numbers.
    """
    total = np.zeros(len(cells), "uint64")
    numbers = schema.of_kind("numeric")
    if numbers:
        factors = np.array([_factor(schema.names[i]) for i in numbers], "uint64")
        total += _bits(x if len(numbers) == len(schema.names) else x[:, numbers]) @ factors
    for column in schema.columns:
        if column.kind != "numeric":
            total += _hashes(cells.columns[column.name]) * _factor(column.name)
    return mixed(total)


def hashes_of_arrays(x: np.ndarray) -> np.ndarray:
    """Hashes (rows,), uint64, of rows (rows, ...) of uint8 or float32."""
    if x.dtype != np.uint8:
        words = _bits(x.reshape(len(x), -1))
    else:
        flat = x.reshape(len(x), -1)
        padded = np.pad(flat, ((0, 0), (0, -flat.shape[1] % 4)))
        words = np.ascontiguousarray(padded).view("uint32").astype("uint64")
    factors = np.random.PCG64(0).random_raw(words.shape[1]) | np.uint64(1)
    return mixed(words @ factors)


def mixed(h: np.ndarray) -> np.ndarray:
    """The last step of splitmix64: every bit depends on every other."""
    with np.errstate(over="ignore"):
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def _bits(x: np.ndarray) -> np.ndarray:
    """The bits of numbers as float32, in uint64: one for all NaN, and for 0 and -0."""
    with np.errstate(over="ignore"):
        numbers = x.astype("float32", copy=False) + np.float32(0)
    numbers[np.isnan(numbers)] = np.nan
    return numbers.view("uint32").astype("uint64")


def _factor(name: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little") | 1)


def _hashes(column: Any) -> np.ndarray:
    if isinstance(column, Coded):
        return np.array([_hash(value) for value in column.values], "uint64")[column.codes]
    if isinstance(column, np.ndarray) and column.dtype.kind == "M":
        return column.astype("datetime64[us]").view("int64").view("uint64")
    return np.array([_hash(value) for value in listed(column)], "uint64")


def _hash(value: Any) -> np.uint64:
    if value is None:
        return _MISSING
    number = None if isinstance(value, bool) else number_of(value)
    if number is not None:  # as where the same column comes as numbers
        return np.uint64(_bits(np.array([number]))[0])
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))
