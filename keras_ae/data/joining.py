"""Tables and files of rows, one or many, in memory or streamed, as one source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.arrow import ArrowTable, TableRows, table_of_dataset, table_of_files
from keras_ae.data.cells import Cells
from keras_ae.data.images import ImageRows
from keras_ae.data.kinds import Inference, infer
from keras_ae.data.nested import lists_among, series_of_arrow
from keras_ae.data.schema import OF_ANOTHER_KIND, Column, Schema, check_problems
from keras_ae.data.sequences import are_padded, names_of, of_steps, padded
from keras_ae.data.shards import cells_of_shards, check_columns, is_many
from keras_ae.data.source import Source
from keras_ae.data.splits import MOST
from keras_ae.data.streams import Stream, as_labels, survey
from keras_ae.data.tables import (
    TABLES,
    UNNAMED,
    Rows,
    as_numbers,
    check_finite,
    check_input,
    counts_rows,
    kind_of,
    open_npz,
    open_parquet,
    read_rows,
    reading_arrow,
)
from keras_ae.data.text import csv_header, csv_text
from keras_ae.data.tfrecord import RecordRows
from keras_ae.data.values import may_be_days
from keras_ae.errors import CellError, InputError

MEMORY_BYTES = 256 << 20
"""What is more is streamed: of text files and records their bytes count, of other tables 8 for each cell, of images 1
for each value."""
_NO_STREAM = "Series in the cells of a table are not streamed or skipped, and take no schema."
_NOT_LOOKED_INTO = MEMORY_BYTES >> 6
STREAMED = "files of .csv, .parquet or .tfrecord, images, or a pyarrow.dataset.Dataset"


@dataclass(frozen=True)
class Asked:
    """What `load_source` is told about a table."""

    labels: str | None = None
    schema: Schema | Mapping[str, Any] | None = None
    drop: tuple[str, ...] = ()
    skip: bool = False

    @property
    def is_plain(self) -> bool:
        return self.schema is None and not self.drop and not self.skip

    def kept(self, columns: Sequence[str], source: str) -> list[str]:
        """The columns that are neither labels nor dropped."""
        left_out = (*self.drop, *([] if self.labels is None else [self.labels]))
        unknown = [column for column in left_out if column not in columns]
        if unknown:
            raise InputError(f"{source} must have a column {unknown[0]!r}. Received: {', '.join(columns)}.")
        return [column for column in columns if column not in left_out]

    def schema_of(self, cells: Any, source: str) -> Schema:
        """The schema that is given, or follows from batches of the columns that are kept."""
        if isinstance(self.schema, Schema):
            return self.schema
        schema = infer(cells, self.schema, source)
        return replace(schema, dropped=(*schema.dropped, *self.drop))


def name_of(path: Path) -> str:
    """Of a source in the manifest: a glob's whole text, else the last part of the path."""
    return str(path) if is_many(path) and not path.is_dir() else path.name


def of_files(path: Path, files: list[Path], asked: Asked, stream: bool | None) -> Source:
    """Files of rows, all of one ending; tables of many bytes are streamed."""
    name = name_of(path)
    if kind_of(files[0]) in TABLES:
        if holds_series(files[0], (*asked.drop, asked.labels)):
            if stream or asked.schema is not None or asked.skip:
                raise InputError(_NO_STREAM)
            return of_series(name, _joined(files, asked.labels, asked.drop), asked.labels)
        size = sum(file.stat().st_size for file in files if file.exists())
        if stream or (stream is None and size > _NOT_LOOKED_INTO and _has_names(files[0])):
            table = table_of_files(name, files)
            if stream or table.bytes > MEMORY_BYTES:
                return streamed(table, asked)
        check_input(files[0])
        if asked.is_plain:
            try:
                rows = _joined(files, asked.labels)
                if rows.columns is None or not (set(rows.columns) & set(UNNAMED) or _may_be_more(rows.x)):
                    return Source(name, rows, labels=asked.labels)
            except CellError:
                if not _has_names(files[0]):
                    raise
        return of_cells([*cells_of_shards(files, most=None)], name, asked)
    if stream:
        raise InputError(f"A stream must be of {STREAMED}. Received: {path}.")
    if not asked.is_plain:
        raise InputError("A schema, columns to drop and rows to skip are of a table: .csv, .parquet, or a DataFrame.")
    if len(files) == 1 and kind_of(files[0]) == ".npz" and asked.labels is None:
        check_input(files[0])
        arrays = open_npz(files[0])
        if {"x_train", "x_test"} <= set(arrays):
            return with_test(name, *(arrays.get(key) for key in ("x_train", "y_train", "x_test", "y_test")))
    return of_series(name, _joined(files, asked.labels), asked.labels)


def of_series(name: str, rows: Rows, labels: str | None = None, test: Rows | None = None) -> Source:
    """Rows (rows, steps, channels), some of which end before the last step, as series of different lengths; other rows
    as they are.

    Raises:
        InputError: for NaN in rows that all go on to the last step: these are no such series.
    """
    parts = [part for part in (rows, test) if part is not None]
    if not any(are_padded(part.x) for part in parts):
        for part in parts:
            check_finite(part.x, name)
        return Source(name, replace(rows, channels=None), test, labels)
    checked = [padded(part.x, name) for part in parts]
    steps = max(x.shape[1] for x in checked)
    channels = rows.channels or names_of(rows.x.shape[2])
    of = [replace(part, x=of_steps(x, steps), channels=channels) for part, x in zip(parts, checked, strict=True)]
    return Source(name, of[0], None if test is None else of[1], labels)


def of_dataset(dataset: Any, asked: Asked, stream: bool | None) -> Source:
    """A `pyarrow.dataset.Dataset`."""
    kept = asked.kept(dataset.schema.names, "The data set")
    if lists_among(dataset.schema, kept):
        if stream or asked.schema is not None or asked.skip:
            raise InputError(_NO_STREAM)
        with reading_arrow("The data set"):
            table = dataset.to_table([*kept, *([] if asked.labels is None else [asked.labels])])
        y = None if asked.labels is None else np.array(table.column(asked.labels).to_pylist(), object)
        series = series_of_arrow(table.select(kept), "The data set")
        assert series is not None
        return of_series("dataset", Rows(series[0], y, channels=series[1]), asked.labels)
    table = table_of_dataset(dataset)
    if stream or (stream is None and table.bytes > MEMORY_BYTES):
        return streamed(table, asked)
    columns = list(table.columns)
    return of_cells([cells for unit in table.units for cells in table.cells(unit, columns)], table.name, asked)


def of_cells(parts: list[Cells], name: str, asked: Asked) -> Source:
    """A table in memory, in parts that have the same columns in the same order."""
    first = parts[0]
    kept = asked.kept(list(first.columns), first.source)
    labels = asked.labels
    schema = asked.schema_of(
        (replace(part, columns={column: part.columns[column] for column in kept}) for part in parts), first.source
    )
    rows, y, problems = [], [], []
    start = 0
    for part in parts:
        x, found = schema.encode(part, ignored=() if labels is None else (labels,))
        rows.append(x)
        problems += [replace(problem, row=problem.row + start) for problem in found]
        start += len(x)
        if labels is not None:
            y.append(as_labels(part.columns[labels]))
    if problems and not asked.skip:
        check_problems(problems, OF_ANOTHER_KIND)
    x, known = np.concatenate(rows), np.concatenate(y) if y else None
    notes = list(schema.notes)
    bad = sorted({problem.row for problem in problems})
    if bad:
        if len(bad) == len(x):
            raise InputError(f"{first.source} must have a row that can be used. {problems[0].message}")
        x, known = np.delete(x, bad, axis=0), None if known is None else np.delete(known, bad)
        notes.append(f"{len(bad):,} of {len(bad) + len(x):,} rows were skipped, the first: {problems[0].message}")
    return Source(name, Rows(x, known, schema.names, schema, tuple(notes), bool(bad)), labels=labels)


def streamed(table: ArrowTable, asked: Asked) -> Source:
    """A table that is read anew each epoch, after a pass for its number of rows and the samples that stay in memory.

    The kinds of its columns follow in the same pass where all hold numbers. Otherwise they take one before it: what a
    text stands for, and so which rows can be used, is known when all cells were seen.
    """
    kept = asked.kept(table.columns, table.name)
    stream, schema = _of_numbers(table, asked, kept) or _of_any_kind(table, asked, kept)
    x, y = stream.samples["train"]
    notes = list(schema.notes)
    if stream.skipped:
        notes.append(f"{stream.skipped:,} of {stream.skipped + stream.total:,} rows were skipped")
    rows = Rows(x, y, schema.names, schema, tuple(notes), bool(stream.skipped))
    return Source(table.name, rows, labels=asked.labels, stream=stream)


def _of_any_kind(table: ArrowTable, asked: Asked, kept: list[str]) -> tuple[Stream, Schema]:
    given = asked.schema if isinstance(asked.schema, Mapping) else {}
    texts = frozenset(
        name for name, of in given.items() if isinstance(of, Mapping) and of.get("kind", "numeric") != "numeric"
    )
    schema = asked.schema_of((cells for unit in table.units for cells in table.cells(unit, kept, texts)), table.name)
    return survey(TableRows(table, schema, asked.labels, asked.skip), MOST), schema


def _of_numbers(table: ArrowTable, asked: Asked, kept: list[str]) -> tuple[Stream, Schema] | None:
    """None where some column holds something else, which the first cells show as a rule."""
    if isinstance(asked.schema, Schema):
        return None
    guess = Schema(tuple(Column(name, "numeric", nullable=True) for name in kept))

    def is_guess(schema: Schema) -> bool:
        return schema.names == guess.names and all(c.kind == "numeric" and not c.decimal for c in schema.columns)

    try:
        if not is_guess(asked.schema_of([next(table.cells(table.units[0], kept))], table.name)):
            return None
        inference = Inference(asked.schema or {}, table.name)
        stream = survey(TableRows(table, guess, asked.labels, asked.skip, inference.add), MOST)
    except InputError:
        return None  # the other way says what is wrong, of cells by what they were taken for
    schema = inference.schema()
    if not is_guess(schema):
        return None
    schema = replace(schema, dropped=(*schema.dropped, *asked.drop))
    return replace(stream, reader=TableRows(table, schema, asked.labels, asked.skip)), schema


def of_reader(name: str, reader: ImageRows | RecordRows, labels: str | None, stream: bool | None) -> Source:
    """Images or records; those of many bytes are streamed."""
    columns = reader.columns if isinstance(reader, RecordRows) else None
    if stream or (stream is None and reader.bytes > MEMORY_BYTES):
        found = survey(reader, MOST)
        return Source(name, Rows(*found.samples["train"], columns), labels=labels, stream=found)
    chunks = [chunk for unit in range(len(reader.units)) for chunk in reader.chunks(unit)]
    y = None if chunks[0].y is None else np.concatenate([chunk.y for chunk in chunks])
    return Source(name, Rows(np.concatenate([chunk.x for chunk in chunks]), y, columns), labels=labels)


def holds_series(file: Path, without: Sequence[str | None]) -> bool:
    """Whether the columns of a .parquet that are not left out are lists of numbers, one of them at least."""
    if kind_of(file) != ".parquet" or not file.is_file():
        return False
    with open_parquet(file, tuple(name for name in without if name is not None), numeric=False) as (opened, kept):
        return bool(lists_among(opened.schema_arrow, kept))


def _has_names(file: Path) -> bool:
    """Whether the columns of a table have names, as those of a .csv need not."""
    if kind_of(file) != ".csv":
        return True
    with csv_text(file):
        return csv_header(file)[0] is not None


def _may_be_more(x: np.ndarray) -> bool:
    """Whether numbers (rows, columns) have a column that counts the rows, or one that may be of days."""
    return x.ndim == 2 and any(may_be_days(c) or counts_rows(c, 0) or counts_rows(c, 1) for c in x.T)


def _joined(files: list[Path], labels: str | None, without: tuple[str, ...] = ()) -> Rows:
    """Rows of numbers; columns of a table in the order of the first file."""
    parts = [read_rows(file, labels=labels, without=without) for file in files]
    first = parts[0]
    if len(parts) == 1:
        return first
    x = []
    if any(part.x.ndim == 3 and (part.channels is not None or np.isnan(part.x).any()) for part in parts):
        steps = max(part.x.shape[1] for part in parts if part.x.ndim == 3)
        parts = [replace(part, x=of_steps(part.x, steps)) if part.x.ndim == 3 else part for part in parts]
    for file, part in zip(files, parts, strict=True):
        if part.channels != first.channels:
            raise InputError(f"{file} must have the columns of {files[0]}, in their order. Received: others.")
        if first.columns is not None:
            check_columns(file, part.columns or (), files[0], first.columns)
            x.append(part.x[:, [(part.columns or ()).index(name) for name in first.columns]])
        elif part.x.shape[1:] != parts[0].x.shape[1:] or part.columns is not None:
            raise InputError(
                f"{file} must have rows of shape {first.x.shape[1:]}, as {files[0]} has. Received: {part.x.shape[1:]}."
            )
        else:
            x.append(part.x)
    y = [part.y for part in parts if part.y is not None]
    if y and len(y) < len(parts):
        raise InputError(f"All files must have labels, or none. Received: labels in {len(y)} of {len(parts)} files.")
    return Rows(np.concatenate(x), np.concatenate(y) if y else None, first.columns, channels=first.channels)


def with_test(
    name: str, x: np.ndarray | None, y: np.ndarray | None, x_test: np.ndarray | None, y_test: np.ndarray | None
) -> Source:
    """Rows and labels to be split, and those that the source keeps for testing."""
    assert x is not None
    assert x_test is not None
    rows, test = Rows(as_numbers(x, f"{name}, x_train"), y), Rows(as_numbers(x_test, f"{name}, x_test"), y_test)
    if rows.x.shape[1:] != test.x.shape[1:] and not (are_padded(rows.x) and are_padded(test.x)):
        raise InputError(
            f"{name}: x_train and x_test must have rows of one shape. Received: {rows.x.shape} and {test.x.shape}."
        )
    for part in (rows, test):
        if part.y is not None and len(part.y) != len(part.x):
            raise InputError(f"{name}: one label a row. Received: {len(part.y)} labels, {len(part.x)} rows.")
    return of_series(name, rows, test=test)
