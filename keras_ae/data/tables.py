"""Arrays and tables of numbers from files, by their ending. NumPy only; parquet through pyarrow."""

import csv
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from keras_ae.errors import InputError, MissingExtra

ENDINGS = (".npy", ".npz", ".csv", ".parquet")


@dataclass(frozen=True)
class Rows:
    """Observations as they were stored.

    Attributes:
        x: (rows, ...), uint8 as it is, other numbers as float32.
        y: labels (rows,), or None.
        columns: names of the features of a table, or None.
    """

    x: np.ndarray
    y: np.ndarray | None = None
    columns: tuple[str, ...] | None = None


def read_rows(path: Path, key: str | None = None) -> Rows:
    """Reads .npy, .npz (`X` or `x` with optional `y`, or one array), .csv (with or without a header) or .parquet.

    Args:
        path: the file.
        key: of the array in an .npz.

    Raises:
        InputError: for a missing, empty, unreadable or non-numeric file; the message names file, row and column.
        MissingExtra: for parquet without pyarrow.
    """
    check_input(path)
    reader = {".npy": _read_npy, ".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix)
    rows = reader(path) if reader is not None else _read_npz(path, key)
    if rows.y is not None and rows.y.shape[:1] != rows.x.shape[:1]:
        raise InputError(
            f"{path}: `y` must have one label a row. Received: labels of shape {rows.y.shape}, {len(rows.x)} rows."
        )
    check_names(path, rows.columns)
    return rows


def check_input(path: Path) -> None:
    """Raises InputError for what can't be a file of rows."""
    if not path.exists():
        raise InputError(f"No such file: {path}.")
    if path.suffix not in ENDINGS:
        raise InputError(f"A file of rows must end in {', '.join(ENDINGS)}. Received: {path.name}.")
    if path.is_dir():
        raise InputError(f"{path} must be a file. Received: a folder.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty.")


def check_names(path: Path, columns: tuple[str, ...] | None) -> None:
    """Raises InputError where two columns have one name."""
    if columns is not None and len(set(columns)) < len(columns):
        twice = next(name for i, name in enumerate(columns) if name in columns[:i])
        raise InputError(f"{path}: each column must have a name of its own. Received: {twice!r} more than once.")


def open_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz; pickled objects are refused, not loaded."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: np.asarray(arrays[name]) for name in arrays.files}
    except Exception as error:  # what zipfile, zlib and NumPy raise for damaged bytes has no common base
        raise InputError(f"{path} is not a readable .npz of plain arrays: {error}") from error


def _read_npy(path: Path) -> Rows:
    try:
        with path.open("rb") as file:
            x = np.lib.format.read_array(file, allow_pickle=False)
    except Exception as error:  # what NumPy raises for damaged bytes has no common base
        raise InputError(f"{path} is not a readable .npy of numbers: {error}") from error
    return Rows(as_numbers(x, str(path)))


def _read_npz(path: Path, key: str | None) -> Rows:
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
    return Rows(as_numbers(arrays[key], str(path)), arrays.get("y"))


def _read_csv(path: Path) -> Rows:
    with open_csv(path) as (columns, lines):
        x = csv_block(lines)
        if x.size == 0:
            raise InputError(f"{path} holds no rows.")
        if columns is not None and x.shape[1] != len(columns):
            raise _csv_error(path)
        return Rows(as_numbers(x, str(path), columns), columns=columns)


@contextmanager
def open_csv(path: Path) -> Iterator[tuple[tuple[str, ...] | None, TextIO]]:
    """The names of the columns, or None, and the file at its first row of numbers; what is wrong in a cell that the
    block reads becomes InputError.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            first = next(filter(None, reader), [])
            header_lines = reader.line_num
        columns = None if all(_is_number(cell) for cell in first) else tuple(cell.strip() for cell in first)
        with path.open(newline="", encoding="utf-8-sig") as file:
            for _ in range(header_lines if columns is not None else 0):
                next(file)
            yield columns, file
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from error
    except InputError:
        raise
    except ValueError as error:
        raise _csv_error(path) from error
    except (csv.Error, OSError) as error:
        raise InputError(f"{path} is not a readable .csv: {error}") from error


def csv_block(file: TextIO, rows: int | None = None) -> np.ndarray:
    """The next rows of numbers, all or so many, float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that there are no rows is said elsewhere
        return np.loadtxt(file, delimiter=",", max_rows=rows, ndmin=2, dtype="float64", quotechar='"', comments=None)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell.strip() == ""
    return cell.isascii() and "_" not in cell  # Python's numbers are more than those of a table


def _csv_error(path: Path) -> InputError:
    """The first cell that is not a number, by row and column; NumPy counts from the first row that it was given."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file)
        first: list[str] = []
        for cells in filter(None, reader):
            where = f"{path}, line {reader.line_num}"
            if not first:
                first = cells
                has_header = not all(_is_number(cell) for cell in first)
                if has_header:
                    continue
            if len(cells) != len(first):
                return InputError(f"{where}: must have {len(first)} columns. Received: {len(cells)}.")
            for i, cell in enumerate(cells):
                if not _is_number(cell) or not cell.strip():
                    name = first[i].strip() if has_header else f"number {i}"
                    what = "an empty cell" if not cell.strip() else repr(cell)
                    return InputError(f"{where}, column {name}: must be a number. Received: {what}.")
    return InputError(f"{path}, line 1: must be numbers or column names. Received: {first}.")


def _read_parquet(path: Path) -> Rows:
    with open_parquet(path) as file:  # not read_table, which takes a folder named a=1 for a column
        return parquet_rows(path, file.read())


@contextmanager
def open_parquet(path: Path) -> Iterator[Any]:
    """A ParquetFile of numbers, with rows; what pyarrow raises in the block becomes InputError."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("Reading and writing parquet", "parquet") from error
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:  # which would hold the whole file, however it is read
            for field in file.schema_arrow:
                kind = field.type
                if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
                    raise InputError(f"{path}, column {field.name}: must be numeric. Received: {kind}.")
            if not len(file.schema_arrow) or not file.metadata.num_rows:
                raise InputError(f"{path} holds no rows.")
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable parquet file: {error}") from error


def parquet_rows(path: Path, table: Any, start: int | None = None) -> Rows:
    """Rows of a pyarrow table or record batch."""
    import pyarrow as pa

    columns = tuple(table.schema.names)
    stacked = np.column_stack([column.cast(pa.float64(), safe=False).to_numpy(False) for column in table.columns])
    x = as_numbers(stacked, str(path), columns, start)
    shape = (table.schema.metadata or {}).get(b"keras_ae_shape")
    return Rows(x.reshape(len(x), *json.loads(shape))) if shape else Rows(x, columns=columns)


def as_numbers(
    x: np.ndarray, where: str, columns: tuple[str, ...] | None = None, start: int | None = None
) -> np.ndarray:
    """uint8 as it is, other numbers as float32, after checking kind, size and finiteness; `start` is the number of the
    first row where x is one batch of several.
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
    raise InputError(
        f"{where}, row {row + (start or 0)}, column {column}: must be finite in float32. "
        f"Received: {x[(row, *position)]} ({count} such {'row' if count == 1 else 'rows'} {among})."
    )
