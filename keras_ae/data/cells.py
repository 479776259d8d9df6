"""Cells of tables as they were stored, text, numbers, dates or nothing, from files, DataFrames and dictionaries."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.tables import TABLES, check_input, check_names, kind_of, open_parquet
from keras_ae.data.text import csv_header, csv_records, csv_text, of_columns
from keras_ae.errors import InputError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "nil", "?", ".", "#n/a", "<na>", "nat"})
"""Texts, in small letters, that stand for a cell without a value."""
MOST_CELLS = 2_000_000
"""Held at once, where a file is read in batches."""


@dataclass(frozen=True)
class Problem:
    """A cell, or a row, that can't be used.

    Attributes:
        row: position among the rows read, from 0.
        message: where it is, what must be there, and what came.
    """

    row: int
    message: str


@dataclass(frozen=True, eq=False)
class Coded(Sequence[Any]):
    """Cells of a column (rows,) by their different values, so that each is looked at once.

    Attributes:
        values: None for one that is missing.
        codes: position of each cell's value, (rows,).
    """

    values: list[Any]
    codes: np.ndarray

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: Any) -> Any:
        return self.values[self.codes[row]]


@dataclass(frozen=True)
class Cells:
    """A table, or some rows of one.

    Attributes:
        columns: cells by column name, each a sequence of (rows,); None is a missing cell.
        source: what they were read from.
        unit: what `at` counts: "line" of a text file, or "row".
        at: number of each row in the source.
        problems: rows that were not of the table's width; their cells are missing.
    """

    columns: dict[str, Any]
    source: str
    unit: str
    at: Sequence[int]
    problems: tuple[Problem, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.at)

    def where(self, row: int, column: str) -> str:
        """For a message."""
        return f"{self.source}, {self.unit} {self.at[row]}, column {column}"


def is_table(x: Any) -> bool:
    """Whether x is a DataFrame (pandas, polars), a pyarrow.Table or a dictionary of columns."""
    return isinstance(x, Mapping) or (hasattr(x, "columns") and hasattr(x, "__getitem__"))


def columns_of(table: Any) -> dict[str, Any]:
    """The columns of a DataFrame, a pyarrow.Table or a dictionary of columns by name."""
    names = [*(table if isinstance(table, Mapping) else getattr(table, "column_names", table.columns))]
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if twice is not None:
        raise InputError(f"Each column must have a name of its own. Received: {str(twice)!r} more than once.")
    return {str(name): table[name] for name in names}


def table_like(x: Any, columns: dict[str, Any]) -> Any:
    """Columns as the kind of table that x is, with its index if it has one."""
    if isinstance(x, dict):
        return columns
    make = getattr(x, "from_pydict", type(x))  # of a pyarrow.Table
    return make(columns, index=x.index) if hasattr(x, "index") else make(columns)


def cells_of(table: Any, source: str = "The table") -> Cells:
    """Cells of a table that is in memory."""
    columns = {name: np.asarray(column) for name, column in columns_of(table).items()}
    sizes = {column.shape for column in columns.values()}
    if len(sizes) != 1 or any(len(size) != 1 for size in sizes):
        raise InputError(f"{source} must have columns (rows,) of one size. Received: {sorted(sizes) or 'none'}.")
    cleaned = {name: c if c.dtype.kind in "biufM" else [_known(cell) for cell in c] for name, c in columns.items()}
    return Cells(cleaned, source, "row", range(sizes.pop()[0]))


def categories_of(table: Any) -> dict[str, dict[str, str]]:
    """The kinds of the columns of a DataFrame whose dtype says that they are categories, whatever their cells."""
    dtypes: Any = getattr(table, "dtypes", None)
    if not hasattr(dtypes, "items"):
        return {}
    return {str(name): {"kind": "categorical"} for name, dtype in dtypes.items() if str(dtype) == "category"}


def read_cells(path: Path, without: Sequence[str] = ()) -> Cells:
    """All cells of a .csv with a header, or of a .parquet.

    Raises:
        InputError: for a file that is no table, or has no rows.
    """
    (cells,) = cell_batches(path, without, None)
    return cells


def cell_batches(path: Path, without: Sequence[str] = (), most: int | None = MOST_CELLS) -> Iterator[Cells]:
    """The same in batches of at most so many cells; columns that are left out need not be there."""
    check_input(path)
    if kind_of(path) not in TABLES:
        raise InputError(f"A table with names must end in {' or '.join(TABLES)}. Received: {path.name}.")
    return (_csv_cells if kind_of(path) == ".csv" else _parquet_cells)(path, tuple(without), most)


def _known(cell: Any) -> Any:
    """None for a cell that is missing, text without the blanks around it, a time of day as text."""
    if isinstance(cell, str):
        cell = cell.strip()
        return None if cell.lower() in MISSING else cell
    if isinstance(cell, time):
        return cell.isoformat("seconds")
    if cell is None or type(cell).__name__ in ("NAType", "NaTType") or (isinstance(cell, float) and cell != cell):
        return None
    return cell


def _csv_cells(path: Path, without: tuple[str, ...], most: int | None) -> Iterator[Cells]:
    with csv_text(path):
        names, _ = csv_header(path)
        if names is None:
            raise InputError(f"{path} must have column names in its first line. Received: numbers.")
        check_names(path, names)
        kept = [i for i, name in enumerate(names) if name not in without]
        if not kept:
            raise InputError(f"{path} must have a column beside {', '.join(without)}. Received: none.")
        size = None if most is None else max(1, most // len(names))
        empty = [""] * len(names)
        lines: tuple[int, ...] = ()
        records = islice(csv_records(path), 1, None)
        while found := list(islice(records, size)):
            lines = tuple(line for line, _ in found)
            problems = tuple(
                Problem(i, f"{path}, line {line}: must have {of_columns(len(names))}. Received: {len(row)}.")
                for i, (line, row) in enumerate(found)
                if len(row) != len(names)
            )
            rows = [row if len(row) == len(names) else empty for _, row in found]
            yield Cells({names[i]: [_known(row[i]) for row in rows] for i in kept}, str(path), "line", lines, problems)
        if not lines:
            raise InputError(f"{path} holds no rows.")


def _parquet_cells(path: Path, without: tuple[str, ...], most: int | None) -> Iterator[Cells]:
    with open_parquet(path, without, numeric=False) as (file, kept):
        check_names(path, tuple(file.schema_arrow.names))
        size = file.metadata.num_rows if most is None else max(1, most // len(kept))
        start = 0
        for batch in file.iter_batches(size, columns=kept, use_threads=False):
            yield cells_of_arrow(batch, str(path), start)
            start += len(batch)


def cells_of_arrow(table: Any, source: str, start: int = 0) -> Cells:
    """Cells of a pyarrow table or record batch, whose first row has the number `start` in its source."""
    columns = {name: arrow_column(table.column(i)) for i, name in enumerate(table.schema.names)}
    return Cells(columns, source, "row", range(start, start + table.num_rows))


def arrow_column(column: Any) -> Any:
    """Cells of an Arrow array: numbers as float64 with NaN, times without zone as datetime64, anything
    else by its values.
    """
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    kind = column.type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    if pa.types.is_timestamp(kind) and kind.tz is None:
        return column.cast(pa.timestamp("us"), safe=False).to_numpy(zero_copy_only=False)
    if pa.types.is_nested(kind):
        return [_known(cell) for cell in column.to_pylist()]
    coded = column if pa.types.is_dictionary(kind) else column.dictionary_encode()
    values = [*map(_known, coded.dictionary.to_pylist()), None]
    return Coded(values, coded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False).astype("int64"))
