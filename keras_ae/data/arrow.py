"""Tables of any size through Arrow: files and data sets in units that are read one by one, as cells."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.batches import BATCH_BYTES, rows_of
from keras_ae.data.cells import MISSING, Cells, arrow_column
from keras_ae.data.hashing import hashes_of_cells
from keras_ae.data.schema import OF_ANOTHER_KIND, Schema, check_problems
from keras_ae.data.shards import check_columns
from keras_ae.data.streams import Chunk, as_labels
from keras_ae.data.tables import PAGES, check_input, check_names, kind_of, reading_arrow
from keras_ae.data.text import DECIMAL_COMMA, csv_header, csv_text, delimiter_of
from keras_ae.errors import InputError

_UNIT_ROWS = 1 << 16
"""Row groups of a parquet file are read together until they have so many rows."""
_MOST_ROWS = 1 << 16
_CSV_BLOCK = 4 << 20


@dataclass(frozen=True)
class Unit:
    """A part of a table that is read on its own: a file, row groups of one, a fragment of a data set.

    Attributes:
        name: for messages.
        start: number of its first row in the file.
        read: gives its columns of these names, in batches of Arrow.
        is_text: whether cells are texts, whatever they mean.
    """

    name: str
    start: int
    read: Callable[[list[str]], Iterator[Any]]
    is_text: bool = False


@dataclass(frozen=True)
class ArrowTable:
    """A table in units, none of which is read yet.

    Attributes:
        name: of the source.
        columns: names.
        units: in order.
        files: how many there are.
        bytes: about what its cells take as numbers in memory, or a text file on disk.
    """

    name: str
    columns: tuple[str, ...]
    units: tuple[Unit, ...]
    files: int
    bytes: int

    def cells(self, unit: Unit, columns: list[str], texts: frozenset[str] = frozenset()) -> Iterator[Cells]:
        """Cells of some columns, in batches; what is text to the file is made numbers where a whole batch can be,
        except for the columns `texts`.
        """
        start = unit.start
        with reading_arrow(unit.name):
            for batch in unit.read(columns):
                if len(batch):
                    of = {
                        name: _as_numbers(column) if unit.is_text and name not in texts else arrow_column(column)
                        for name, column in zip(batch.schema.names, batch.columns, strict=True)
                    }
                    yield Cells(of, unit.name, "row", range(start, start + len(batch)))
                start += len(batch)
        if start == unit.start:
            raise InputError(f"{unit.name} holds no rows.")


@dataclass(frozen=True)
class TableRows:
    """A table as `keras_ae.data.streams.Reader`: rows of its features, float32.

    Attributes:
        table: in units.
        schema: of its columns; what is in it no row may lack.
        labels: the column of labels, or None.
        skip: leave out a row with a cell that can't be used, instead of raising.
        seen: is told the cells of the features, before any row of them is left out.
    """

    table: ArrowTable
    schema: Schema
    labels: str | None = None
    skip: bool = False
    seen: Callable[[Cells], None] | None = field(default=None, repr=False)

    @property
    def units(self) -> list[str]:
        return [unit.name for unit in self.table.units]

    @property
    def files(self) -> int:
        return self.table.files

    def chunks(self, unit: int) -> Iterator[Chunk]:
        """Raises InputError for a cell that can't be used, by file, row and column."""
        names = self.schema.names
        texts = frozenset(column.name for column in self.schema.columns if column.kind != "numeric" or column.decimal)
        if self.labels is not None:
            texts |= {self.labels}
        columns = [*names, *([] if self.labels is None else [self.labels])]
        for cells in self.table.cells(self.table.units[unit], columns, texts):
            if self.seen is not None:
                self.seen(replace(cells, columns={name: cells.columns[name] for name in names}))
            y = None if self.labels is None else cells.columns[self.labels]
            x, problems = self.schema.encode(cells, ignored=() if self.labels is None else (self.labels,))
            hashes = hashes_of_cells(cells, self.schema, x)
            if problems and not self.skip:
                check_problems(problems, OF_ANOTHER_KIND)
            bad = sorted({problem.row for problem in problems})
            if bad:
                x, hashes = np.delete(x, bad, axis=0), np.delete(hashes, bad)
                y = None if y is None else np.delete(as_labels(y), bad)
            yield Chunk(x, hashes, y, len(bad))


def is_dataset(source: Any) -> bool:
    """Whether a source is a `pyarrow.dataset.Dataset`."""
    return any(of.__module__.startswith("pyarrow") and of.__name__ == "Dataset" for of in type(source).__mro__)


def table_of_files(name: str, files: list[Path]) -> ArrowTable:
    """Files of parquet or CSV; of each, its columns are read.

    Raises:
        InputError: for one that can't be read, is empty, or has other columns, or columns of another kind, than the
            first.
        MissingExtra: without pyarrow.
    """
    open_file = _csv if kind_of(files[0]) == ".csv" else _parquet
    units: list[Unit] = []
    size = 0
    first: dict[str, str] = {}
    for file in files:
        check_input(file)
        with reading_arrow(file):
            kinds, found, of = open_file(file)
        check_names(file, tuple(kinds))
        first = first or kinds
        check_columns(file, tuple(kinds), files[0], tuple(first))
        for column, kind in kinds.items():
            if kind != first[column]:
                raise InputError(
                    f"{file}, column {column}: must be {first[column]}, as in {files[0]}. Received: {kind}."
                )
        units += found
        size += of
    return ArrowTable(name, tuple(first), tuple(units), len(files), size)


def table_of_dataset(dataset: Any) -> ArrowTable:
    """A `pyarrow.dataset.Dataset`, columns of its partitions among them; each fragment is a unit."""
    columns = tuple(dataset.schema.names)

    def unit(i: int, fragment: Any) -> Unit:
        def read(columns: list[str]) -> Iterator[Any]:
            return iter(
                fragment.to_batches(
                    schema=dataset.schema,
                    columns=columns,
                    batch_size=_batch_rows(len(columns)),
                    batch_readahead=1,
                    fragment_readahead=1,
                )
            )

        return Unit(getattr(fragment, "path", None) or f"fragment {i} of the data set", 0, read)

    with reading_arrow("The data set"):
        units = tuple(unit(i, fragment) for i, fragment in enumerate(dataset.get_fragments()))
        if not units:
            raise InputError("The data set must hold rows. Received: no fragments.")
        return ArrowTable("dataset", columns, units, len(units), 8 * dataset.count_rows() * len(columns))


def _batch_rows(columns: int) -> int:
    return min(_MOST_ROWS, rows_of(BATCH_BYTES, columns))


def _parquet(path: Path) -> tuple[dict[str, str], list[Unit], int]:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        kinds = {field.name: _kind(field.type) for field in file.schema_arrow}
        counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    if not sum(counts):
        raise InputError(f"{path} holds no rows.")
    units: list[Unit] = []
    groups: list[int] = []
    start = rows = 0
    for i, count in enumerate(counts):
        groups.append(i)
        rows += count
        if rows >= _UNIT_ROWS or i + 1 == len(counts):
            if rows:
                units.append(Unit(str(path), start, _reading(path, tuple(groups))))
            start, rows, groups = start + rows, 0, []
    return kinds, units, 8 * start * len(kinds)


def _reading(path: Path, groups: tuple[int, ...]) -> Callable[[list[str]], Iterator[Any]]:
    def read(columns: list[str]) -> Iterator[Any]:
        import pyarrow.parquet as pq

        # Not a scan of a data set, which holds whole row groups.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=PAGES) as file:
            yield from file.iter_batches(_batch_rows(len(columns)), list(groups), columns, use_threads=False)

    return read


def _csv(path: Path) -> tuple[dict[str, str], list[Unit], int]:
    with csv_text(path):
        names, lines = csv_header(path)
    if names is None:
        raise InputError(f"{path} must have column names in its first line. Received: numbers.")

    def read(columns: list[str]) -> Iterator[Any]:
        import pyarrow as pa
        import pyarrow.csv

        delimiter = delimiter_of(path)
        texts = {word for text in MISSING for word in (text, text.upper(), text.capitalize())}
        options = {
            "read_options": pyarrow.csv.ReadOptions(
                block_size=_CSV_BLOCK, use_threads=False, skip_rows=lines, column_names=list(names)
            ),
            "parse_options": pyarrow.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            "convert_options": pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=sorted(texts),
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
                include_columns=columns,
            ),
        }
        with pyarrow.csv.open_csv(path, **options) as reader:
            yield from reader if delimiter != ";" else map(_with_points, reader)

    return dict.fromkeys(names, "text"), [Unit(str(path), 0, read, is_text=True)], path.stat().st_size


def _kind(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "numbers"
    return str(kind.value_type if pa.types.is_dictionary(kind) else kind).removeprefix("large_")


def _with_points(batch: Any) -> Any:
    import pyarrow as pa
    from pyarrow import compute

    def with_points(column: Any) -> Any:
        is_number = compute.match_substring_regex(column, f"^{DECIMAL_COMMA.pattern}$")
        number = compute.replace_substring(compute.replace_substring(column, ".", ""), ",", ".")
        return compute.if_else(is_number, compute.utf8_trim_whitespace(number), column)

    return pa.record_batch([with_points(column) for column in batch.columns], schema=batch.schema)


def _as_numbers(column: Any) -> Any:
    import pyarrow as pa

    try:
        return arrow_column(column.cast(pa.float64()))
    except pa.ArrowInvalid:
        return arrow_column(column)
