"""Files of rows in batches, so that a file may be larger than memory."""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np

from keras_ae.data.tables import (
    Rows,
    as_numbers,
    check_input,
    check_names,
    kind_of,
    open_parquet,
    parquet_rows,
    read_rows,
)
from keras_ae.data.text import open_csv
from keras_ae.errors import InputError, reading

BATCH_BYTES = 16 << 20
"""Of one batch as float64: small enough for several at once, large enough that a batch costs nothing of itself."""
_NUMBER = 8  # bytes

T = TypeVar("T")


def read_batches(
    path: Path, size: int = BATCH_BYTES, without: tuple[str, ...] = ()
) -> tuple[int | None, Iterator[Rows]]:
    """The number of rows, or None where the file does not tell, and the rows in batches of about `size` bytes.

    A file that is one batch is read as `read_rows` reads it, and so is every .npz. Errors name the row by its number in
    the file. Columns that are to be left out (`without`) need not be there, nor hold numbers.

    Raises:
        InputError, MissingExtra: as `read_rows`; for what is in a row, when its batch is read.
    """
    check_input(path)
    if kind_of(path) == ".parquet":
        with open_parquet(path, without) as (file, kept):
            rows, features = file.metadata.num_rows, len(kept)
        if rows * features * _NUMBER > size:
            return rows, _parquet_batches(path, rows_of(size, features), without)
    elif kind_of(path) == ".csv" and path.stat().st_size > size:
        return None, _csv_batches(path, size, without)
    elif kind_of(path) == ".npy" and path.stat().st_size > size:
        return _npy_batches(path, size)
    whole = read_rows(path, without=without)
    return len(whole.x), iter([whole])


def ahead(items: Iterable[T], depth: int = 2) -> Iterator[T]:
    """The same items, of which up to `depth` are made in a thread before they are asked for.

    What goes wrong in the thread is raised here, in its turn.
    """
    iterator = iter(items)
    end = object()
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, iterator, end) for _ in range(depth))
        try:
            while (item := waiting.popleft().result()) is not end:
                waiting.append(thread.submit(next, iterator, end))
                yield item  # type: ignore[misc]
        finally:
            thread.shutdown(cancel_futures=True)


def rows_of(size: int, features: int) -> int:
    """Rows of a batch of about so many bytes."""
    return max(1, size // (_NUMBER * max(features, 1)))


def _parquet_batches(path: Path, rows: int, without: tuple[str, ...]) -> Iterator[Rows]:
    start = 0
    with open_parquet(path, without) as (file, kept):
        check_names(path, tuple(file.schema_arrow.names))
        for batch in file.iter_batches(rows, columns=kept, use_threads=False):
            yield parquet_rows(path, batch, start)
            start += len(batch)


def _csv_batches(path: Path, size: int, without: tuple[str, ...]) -> Iterator[Rows]:
    start = 0
    features: int | None = None
    with open_csv(path, without) as (columns, block):
        check_names(path, columns)
        features = len(columns) if columns else None
        while len(x := block(rows_of(size, features or 1_000))):
            if features is not None and x.shape[1] != features:
                raise ValueError  # in open_csv the search for the line begins
            features = x.shape[1]
            yield Rows(as_numbers(x, str(path), columns, start), columns=columns)
            start += len(x)
    if start == 0:
        raise InputError(f"{path} holds no rows.")


def _npy_batches(path: Path, size: int) -> tuple[int, Iterator[Rows]]:
    with reading(path, ".npy of numbers", KeyError, ValueError, OSError), path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        read = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}[version[0]]
        shape, fortran_order, dtype = read(file)
        offset = file.tell()
    if fortran_order or dtype.hasobject or len(shape) < 2 or not math.prod(shape):
        whole = read_rows(path)  # which lies in another order, or is refused
        return len(whole.x), iter([whole])
    if path.stat().st_size < offset + math.prod(shape) * dtype.itemsize:
        raise InputError(f"{path} is not a readable .npy of numbers: it was cut.")
    return shape[0], _npy_blocks(path, offset, shape, dtype, rows_of(size, math.prod(shape[1:])))


def _npy_blocks(
    path: Path, offset: int, shape: tuple[int, ...], dtype: np.dtype[np.generic], rows: int
) -> Iterator[Rows]:
    with path.open("rb") as file:
        file.seek(offset)
        for start in range(0, shape[0], rows):
            count = min(rows, shape[0] - start)
            block = np.fromfile(file, dtype, count * math.prod(shape[1:])).reshape(count, *shape[1:])
            yield Rows(as_numbers(block, str(path), start=start))
