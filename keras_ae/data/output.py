"""Arrays and tables of numbers to files, by their ending, whole or in batches. NumPy only; parquet through pyarrow."""

import contextlib
import csv
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from keras_ae.data.tables import ENDINGS
from keras_ae.errors import InputError, importing

Named = dict[str, np.ndarray]
Columns = tuple[str, ...] | None


def check_output(path: Path | None) -> None:
    """Raises InputError, before any work is done, where results could not be written; None is the standard output."""
    if path is None:
        return
    if path.suffix not in ENDINGS:
        raise InputError(f"An output file must end in {', '.join(ENDINGS)}. Received: {path.name}.")
    if not path.parent.is_dir():
        raise InputError(f"No such folder to write to: {path.parent}.")
    if path.suffix == ".parquet":
        with importing("Reading and writing parquet", "parquet"):
            import pyarrow  # noqa: F401


def ending_of(path: Path | None) -> str:
    """The ending that says how results are written; to the standard output as those of a .csv."""
    return ".csv" if path is None else path.suffix


def write_rows(path: Path | None, arrays: Named, columns: Columns = None) -> None:
    """Writes named results, whole or not at all.

    One array keeps its shape in .npy; several (rows,) arrays become its columns. In .npz each keeps its name. In .csv
    and .parquet there is one column a feature, named by `columns` or by the array's name and index.
    """
    write_batches(path, [arrays], columns)


def write_batches(path: Path | None, batches: Iterable[Named], columns: Columns = None) -> None:
    """Writes named results as they come, the whole file or none: it gets its name when the last batch is in it. None
    is the standard output.

    As `write_rows`. An .npz is held in memory until then, the others are not.
    """
    check_output(path)
    if path is None:
        return _write_lines(sys.stdout, batches, columns)
    write = {".npy": _write_npy, ".npz": _write_npz, ".csv": _write_csv, ".parquet": _write_parquet}[path.suffix]
    partial = path.with_name(f".{path.name}.partial")
    try:
        write(partial, batches, columns)
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path} could not be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # on a file system that can't be written, even where there is none
            partial.unlink(missing_ok=True)


def _write_npy(path: Path, batches: Iterable[Named], columns: Columns) -> None:
    rows, array = 0, np.empty(0)
    with path.open("wb") as file:
        for arrays in batches:
            array = next(iter(arrays.values())) if len(arrays) == 1 else np.column_stack([*arrays.values()])
            if rows == 0:
                _write_npy_header(file, array, rows)
            rows += len(array)
            file.write(np.ascontiguousarray(array).data)
        file.seek(0)
        _write_npy_header(file, array, rows)


def _write_npy_header(file: BinaryIO, array: np.ndarray, rows: int) -> None:
    """NumPy leaves room for the number of rows to grow, so that a header is as long as the one that replaces it."""
    descr = np.lib.format.dtype_to_descr(array.dtype)
    header = {"descr": descr, "fortran_order": False, "shape": (rows, *array.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)


def _write_npz(path: Path, batches: Iterable[Named], columns: Columns) -> None:
    parts = list(batches)
    with path.open("wb") as file:
        np.savez(file, **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]})  # type: ignore[arg-type]


def _write_csv(path: Path, batches: Iterable[Named], columns: Columns) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        _write_lines(file, batches, columns)


def _write_lines(file: TextIO, batches: Iterable[Named], columns: Columns) -> None:
    writer = csv.writer(file, lineterminator="\n")  # as savetxt ends its lines
    for i, arrays in enumerate(batches):
        names, table = _table(arrays, columns)
        if i == 0:
            writer.writerow(names)
        if isinstance(table, np.ndarray):
            np.savetxt(file, table, fmt="%.9g", delimiter=",")
        else:
            writer.writerows(zip(*map(_as_text, table), strict=True))


def _write_parquet(path: Path, batches: Iterable[Named], columns: Columns) -> None:
    import pyarrow.parquet as pq

    writer: Any = None
    try:
        for arrays in batches:
            table = arrow_table(arrays, columns)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def arrow_table(arrays: Named, columns: Columns = None) -> Any:
    """Named results as a pyarrow table, in the columns of a parquet file."""
    import pyarrow as pa

    names, columns_of = _table(arrays, columns)
    parts = columns_of.T if isinstance(columns_of, np.ndarray) else map(_as_arrow, columns_of)
    table = pa.table(dict(zip(names, parts, strict=True)))
    first = next(iter(arrays.values()))
    if len(arrays) == 1 and first.ndim > 2:
        table = table.replace_schema_metadata({"keras_ae_shape": json.dumps(first.shape[1:])})
    return table


def _table(arrays: Named, columns: Columns) -> tuple[list[str], Any]:
    """Names, and numbers (rows, names), or where some are text a list of columns."""
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
    if any(part.dtype == object for part in parts):
        return names, [column for part in parts for column in part.T]
    return names, np.hstack(parts)


def _as_text(column: np.ndarray) -> Any:
    """Cells of a .csv: nothing for one that is missing, float32 with all the digits that it has."""
    if column.dtype.kind == "f":
        return ["" if value != value else f"{value:.9g}" for value in column.tolist()]
    return ["" if cell is None else str(cell).lower() if isinstance(cell, bool) else cell for cell in column]


def _as_arrow(column: np.ndarray) -> Any:
    """An Arrow array of a type that does not depend on which cells of a batch are missing."""
    import pyarrow as pa

    if column.dtype != object:
        return pa.array(column)
    known = next((cell for cell in column if cell is not None), "")
    if isinstance(known, np.ndarray):
        return pa.array(list(column), pa.list_(pa.float32()))
    kind = pa.bool_() if isinstance(known, bool) else pa.float64() if isinstance(known, float | int) else pa.string()
    cells = column.tolist()
    return pa.array([cell if cell is None or kind != pa.string() else str(cell) for cell in cells], kind)
