"""Arrays and tables of numbers from files and to files, by their ending. NumPy only; parquet through pyarrow."""

import csv
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    if not path.exists():
        raise InputError(f"No such file: {path}.")
    if path.suffix not in ENDINGS:
        raise InputError(f"A file of rows must end in {', '.join(ENDINGS)}. Received: {path.name}.")
    if path.is_dir():
        raise InputError(f"{path} must be a file. Received: a folder.")
    if path.stat().st_size == 0:
        raise InputError(f"{path} is empty.")
    reader = {".npy": _read_npy, ".csv": _read_csv, ".parquet": _read_parquet}.get(path.suffix)
    rows = reader(path) if reader is not None else _read_npz(path, key)
    if rows.y is not None and rows.y.shape[:1] != rows.x.shape[:1]:
        raise InputError(
            f"{path}: `y` must have one label a row. Received: labels of shape {rows.y.shape}, {len(rows.x)} rows."
        )
    if rows.columns is not None and len(set(rows.columns)) < len(rows.columns):
        twice = next(name for i, name in enumerate(rows.columns) if name in rows.columns[:i])
        raise InputError(f"{path}: each column must have a name of its own. Received: {twice!r} more than once.")
    return rows


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
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            first = next(filter(None, reader), [])
            header_lines = reader.line_num
        columns = None if all(_is_number(cell) for cell in first) else tuple(cell.strip() for cell in first)
        with path.open(newline="", encoding="utf-8-sig") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that there are no rows is said below
            x = np.loadtxt(
                file,
                delimiter=",",
                skiprows=header_lines if columns is not None else 0,
                ndmin=2,
                dtype="float64",
                quotechar='"',
                comments=None,
            )
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from error
    except ValueError as error:
        raise _csv_error(path) from error
    except (csv.Error, OSError) as error:
        raise InputError(f"{path} is not a readable .csv: {error}") from error
    if x.size == 0:
        raise InputError(f"{path} holds no rows.")
    if columns is not None and x.shape[1] != len(columns):
        raise _csv_error(path)
    return Rows(as_numbers(x, str(path), columns), columns=columns)


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
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("Reading and writing parquet", "parquet") from error
    try:
        with pq.ParquetFile(path) as file:  # not read_table, which takes a folder named a=1 for a column
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is not a readable parquet file: {error}") from error
    metadata = table.schema.metadata or {}
    for field in table.schema:
        numeric = pa.types.is_integer(field.type) or pa.types.is_floating(field.type) or pa.types.is_boolean(field.type)
        if not numeric:
            raise InputError(f"{path}, column {field.name}: must be numeric. Received: {field.type}.")
    columns = tuple(table.column_names)
    if not columns or not table.num_rows:
        raise InputError(f"{path} holds no rows.")
    x = np.column_stack([column.cast(pa.float64(), safe=False).to_numpy() for column in table.columns])
    shape = json.loads(metadata[b"keras_ae_shape"]) if b"keras_ae_shape" in metadata else None
    x = as_numbers(x, str(path), columns)
    return Rows(x.reshape(len(x), *shape)) if shape else Rows(x, columns=columns)


def as_numbers(x: np.ndarray, where: str, columns: tuple[str, ...] | None = None) -> np.ndarray:
    """uint8 as it is, other numbers as float32, after checking kind, size and finiteness."""
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
    check_finite(numbers, where, columns)
    return numbers


def check_finite(x: np.ndarray, where: str, columns: tuple[str, ...] | None = None) -> None:
    """Raises InputError naming the first row and column that holds NaN, infinity or what float32 can't."""
    if x.dtype.kind != "f" or np.isfinite(x).all():
        return
    row, *position = (int(i) for i in np.argwhere(~np.isfinite(x))[0])
    column = columns[position[0]] if columns else position[0] if len(position) == 1 else tuple(position)
    count = int((~np.isfinite(x)).any(axis=tuple(range(1, x.ndim))).sum())
    raise InputError(
        f"{where}, row {row}, column {column}: must be finite in float32. Received: {x[(row, *position)]} "
        f"({count} such {'row' if count == 1 else 'rows'} in all)."
    )


def check_output(path: Path) -> None:
    """Raises InputError, before any work is done, where results could not be written."""
    if path.suffix not in ENDINGS:
        raise InputError(f"An output file must end in {', '.join(ENDINGS)}. Received: {path.name}.")
    if not path.parent.is_dir():
        raise InputError(f"No such folder to write to: {path.parent}.")
    if path.suffix == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise MissingExtra("Reading and writing parquet", "parquet") from error


def write_rows(path: Path, arrays: dict[str, np.ndarray], columns: tuple[str, ...] | None = None) -> None:
    """Writes named results, whole or not at all.

    One array keeps its shape in .npy; several (rows,) arrays become its columns. In .npz each keeps its name. In .csv
    and .parquet there is one column a feature, named by `columns` or by the array's name and index.
    """
    check_output(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        if path.suffix == ".npz":
            with partial.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        elif path.suffix == ".npy":
            with partial.open("wb") as file:
                np.save(file, next(iter(arrays.values())) if len(arrays) == 1 else np.column_stack([*arrays.values()]))
        else:
            _write_table(partial, path.suffix, arrays, columns)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def _write_table(path: Path, ending: str, arrays: dict[str, np.ndarray], columns: tuple[str, ...] | None) -> None:
    names: list[str] = []
    parts: list[np.ndarray] = []
    for name, array in arrays.items():
        flat = array.reshape(len(array), -1)
        parts.append(flat)
        if array.ndim == 1:
            names.append(name)
        elif columns is not None and len(columns) == flat.shape[1]:
            names.extend(columns)
        else:
            names.extend(f"{name}{i}" for i in range(flat.shape[1]))
    if ending == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(names)
            np.savetxt(file, np.hstack(parts), fmt="%.9g", delimiter=",")
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    table: Any = pa.table(dict(zip(names, np.hstack(parts).T, strict=True)))
    first = next(iter(arrays.values()))
    if len(arrays) == 1 and first.ndim > 2:
        table = table.replace_schema_metadata({"keras_ae_shape": json.dumps(first.shape[1:])})
    pq.write_table(table, path)
