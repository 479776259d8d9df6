"""Arrays and tables of numbers from files, by their ending. NumPy only; parquet through pyarrow."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.nested import lists_among, series_of_arrow
from keras_ae.data.sequences import are_padded
from keras_ae.data.text import csv_column, open_csv
from keras_ae.errors import CellError, InputError, importing, reading

TABLES = (".csv", ".parquet")
"""Files whose columns have names."""
ENDINGS = (".npy", ".npz", *TABLES)
PAGES = 1 << 16
"""Bytes of a column of a .parquet that are read at once."""
UNNAMED = ("", "Unnamed: 0", "__index_level_0__")
"""Columns without a name of their own: pandas writes row numbers so, which say nothing of a row."""


def kind_of(path: Path) -> str:
    """The ending that tells how a file is read: in lower case, and `.csv` where it is `.tsv`."""
    ending = path.suffix.lower()
    return ".csv" if ending == ".tsv" else ending


@dataclass(frozen=True)
class Rows:
    """Observations as they were stored.

    Attributes:
        x: (rows, ...), uint8 as it is, other numbers as float32.
        y: labels (rows,), or None.
        columns: names of the features of a table, or None.
        schema: what its columns are, where they were looked at: codes, days and NaN stand in x then.
        notes: what was found, for people.
        skipped: whether rows that can't be used were left out.
        windowing: how x was cut from a series, where it is windows.
        groups: (rows,), of rows that belong together and are not to be split.
        channels: names, where x is series of different lengths, (rows, steps, channels) with NaN behind each.
    """

    x: np.ndarray
    y: np.ndarray | None = None
    columns: tuple[str, ...] | None = None
    schema: Any = None
    notes: tuple[str, ...] = ()
    skipped: bool = False
    windowing: Any = None
    groups: np.ndarray | None = None
    channels: tuple[str, ...] | None = None


def read_rows(path: Path, key: str | None = None, labels: str | None = None, without: tuple[str, ...] = ()) -> Rows:
    """Reads .npy, .npz (`X` or `x` with optional `y`, or one array), .csv (with or without a header) or .parquet.

    Args:
        path: the file.
        key: of the array in an .npz.
        labels: the column of a table that holds labels, numbers or text; of an .npz, the array.
        without: columns of a table that are left out, where they are there.

    Raises:
        InputError: for a missing, empty, unreadable or non-numeric file; the message names file, row and column.
        MissingExtra: for parquet without pyarrow.
    """
    check_input(path)
    if kind_of(path) == ".npy":
        if labels is not None:
            raise InputError(f"Labels need columns, or an .npz. Received: {path.name} and labels {labels!r}.")
        rows = _read_npy(path)
    elif kind_of(path) == ".npz":
        rows = _read_npz(path, key, labels or "y")
    else:
        rows = (_read_csv if kind_of(path) == ".csv" else _read_parquet)(path, labels, without)
    if rows.y is not None and rows.y.shape[:1] != rows.x.shape[:1]:
        raise InputError(
            f"{path}: `y` must have one label a row. Received: labels of shape {rows.y.shape}, {len(rows.x)} rows."
        )
    check_names(path, rows.columns)
    return rows


def check_input(path: Path) -> None:
    """Raises InputError for what can't be a file of rows."""
    if path.exists() and kind_of(path) not in ENDINGS:
        raise InputError(f"A file of rows must end in {', '.join(ENDINGS)}. Received: {path.name}.")
    if path.is_dir():
        raise InputError(f"{path} must be a file. Received: a folder.")
    check_input_file(path)


def check_input_file(path: Path) -> None:
    """Raises InputError where there is no file, or nothing in it."""
    if not path.exists():
        raise InputError(f"No such file: {path}.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty.")


def check_names(path: Path, columns: tuple[str, ...] | None) -> None:
    """Raises InputError where two columns have one name."""
    if columns is not None and len(set(columns)) < len(columns):
        twice = next(name for i, name in enumerate(columns) if name in columns[:i])
        raise InputError(f"{path}: each column must have a name of its own. Received: {twice!r} more than once.")


def open_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; pickled objects are refused, not loaded."""
    with reading(path, ".npz of plain arrays"), np.load(path, allow_pickle=False) as arrays:
        return {name: np.asarray(arrays[name]) for name in arrays.files}


def counts_rows(column: np.ndarray, start: float) -> bool:
    """Whether numbers (rows,) are those that follow from a start on, 1 more in each row."""
    return bool(column[:1] == start) and np.array_equal(column, start + np.arange(len(column)))


def _read_npy(path: Path) -> Rows:
    with reading(path, ".npy of numbers"), path.open("rb") as file:
        x = np.lib.format.read_array(file, allow_pickle=False)
    return Rows(as_numbers(x, str(path)))


def _read_npz(path: Path, key: str | None, labels: str) -> Rows:
    arrays = open_npz(path)
    if key is None:
        known: list[str] = [name for name in ("X", "x", "z", "arr_0") if name in arrays]
        if not known and len(arrays) != 1:
            raise InputError(
                f"{path} must hold an array `X` (and optional `y`). Received: {', '.join(arrays) or 'none'}."
            )
        key = known[0] if known else next(iter(arrays))
    if key not in arrays:
        raise InputError(f"{path} must hold an array {key!r}. Received: {', '.join(arrays) or 'none'}.")
    if labels != "y" and labels not in arrays:
        raise InputError(f"{path} must hold an array {labels!r} of labels. Received: {', '.join(arrays)}.")
    return Rows(as_numbers(arrays[key], str(path)), arrays.get(labels))


def _read_csv(path: Path, labels: str | None, without: tuple[str, ...]) -> Rows:
    y = None if labels is None else csv_column(path, labels)
    with open_csv(path, (*without, *([] if labels is None else [labels]))) as (columns, block):
        x = block(None)
        if x.size == 0:
            raise InputError(f"{path} holds no rows.")
        return Rows(as_numbers(x, str(path), columns), y, columns)


def _read_parquet(path: Path, labels: str | None, without: tuple[str, ...]) -> Rows:
    without = (*without, *([] if labels is None else [labels]))
    with open_parquet(path, without, labels) as (file, kept):  # not read_table: to it a folder named a=1 is a column
        rows = parquet_rows(path, file.read(columns=kept))
        if labels is None:
            return rows
        y = np.array(file.read(columns=[labels]).column(0).to_pylist(), dtype=object)
        return replace(rows, y=y)


@contextmanager
def reading_arrow(source: object) -> Iterator[None]:
    """What pyarrow raises in the block becomes an InputError that names the source."""
    with importing("Reading and writing parquet", "parquet"):
        import pyarrow as pa
    with reading(source, "table", pa.ArrowException, OSError, UnicodeDecodeError):
        yield


@contextmanager
def open_parquet(
    path: Path, without: tuple[str, ...] = (), labels: str | None = None, numeric: bool = True
) -> Iterator[tuple[Any, list[str]]]:
    """A ParquetFile with rows, as a rule of numbers only, and the columns that are not left out; what pyarrow raises in
    the block becomes InputError.
    """
    with reading_arrow(path):
        import pyarrow as pa
        import pyarrow.parquet as pq

        # `pre_buffer` would hold the whole file, however it is read, and no `buffer_size` a row group.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=PAGES) as file:
            names = file.schema_arrow.names
            if labels is not None and labels not in names:
                raise InputError(f"{path} must have a column {labels!r} for labels. Received: {', '.join(names)}.")
            fields = [field for field in file.schema_arrow if field.name not in without]
            lists = lists_among(file.schema_arrow, [field.name for field in fields])
            are_numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
            for field in fields if numeric and not lists else ():
                if not any(are(field.type) for are in are_numbers):
                    raise CellError(f"{path}, column {field.name}: must be numeric. Received: {field.type}.")
            if not fields or not file.metadata.num_rows:
                raise InputError(f"{path} holds no rows.")
            yield file, [field.name for field in fields]


def parquet_rows(path: Path, table: Any, start: int | None = None) -> Rows:
    """Rows of a pyarrow table or record batch, or the series that lie in its cells."""
    import pyarrow as pa

    series = series_of_arrow(table, str(path))
    if series is not None:
        return Rows(series[0], channels=series[1])
    columns = tuple(table.schema.names)
    stacked = np.column_stack([column.cast(pa.float64(), safe=False).to_numpy(False) for column in table.columns])
    x = as_numbers(stacked, str(path), columns, start)
    shape = (table.schema.metadata or {}).get(b"keras_ae_shape")
    return Rows(x.reshape(len(x), *json.loads(shape))) if shape else Rows(x, columns=columns)


def as_numbers(
    x: np.ndarray, where: str, columns: tuple[str, ...] | None = None, start: int | None = None
) -> np.ndarray:
    """uint8 as it is, other numbers as float32, after checking kind, size and finiteness; `start` is the number of the
    first row where x is one batch of several. Where series (rows, steps, channels) end in NaN, it may stand for what is
    missing: whether a model takes such series is for that to say.
    """
    if x.ndim < 1 or x.dtype.kind not in "biuf":
        raise InputError(f"{where} must hold an array of numbers (rows, ...). Received: {x.dtype} of shape {x.shape}.")
    if x.ndim == 1:
        raise InputError(
            f"{where} must have an axis of rows and at least one of features. Received: shape {x.shape}; "
            "one row is (1, features), one feature (rows, 1)."
        )
    if x.size == 0:
        raise InputError(f"{where} holds no rows. Received: shape {x.shape}.")
    if x.dtype == np.uint8:
        return x
    with np.errstate(over="ignore"):
        numbers = np.ascontiguousarray(x, dtype="float32")
    if are_padded(numbers):
        missing = np.isnan(numbers)
        check_finite(np.where(missing, np.float32(0), numbers), where, columns, start)
        return np.where(missing, np.float32(np.nan), numbers)  # of one sign and payload, so that hashes agree
    check_finite(numbers, where, columns, start)
    return numbers


def check_finite(x: np.ndarray, where: str, columns: tuple[str, ...] | None = None, start: int | None = None) -> None:
    """Raises InputError naming the first row and column that holds NaN, infinity or what float32 can't."""
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return
    row, *position = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
    column = columns[position[0]] if columns else position[0] if len(position) == 1 else tuple(position)
    count = int((~np.isfinite(x)).any(axis=tuple(range(1, x.ndim))).sum())
    among = "in all" if start is None else f"in rows {start} to {start + len(x) - 1}"
    wrong = CellError if np.isnan(x[(row, *position)]) else InputError
    raise wrong(
        f"{where}, row {row + (start or 0)}, column {column}: must be finite in float32. "
        f"Received: {x[(row, *position)]} ({count} such {'row' if count == 1 else 'rows'} {among})."
    )
