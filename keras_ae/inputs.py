"""What a model takes, from files of any kind: rows in batches, their columns in the order of those trained on."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.arrow import ArrowTable, is_dataset, table_of_dataset
from keras_ae.data.cells import Cells, Problem
from keras_ae.data.images import IMAGE_ENDINGS, ImageRows
from keras_ae.data.nested import Series, in_order, series_of_arrow
from keras_ae.data.schema import check_problems, check_taken
from keras_ae.data.sequences import Sequences
from keras_ae.data.shards import batches_of, cells_of_shards, is_many
from keras_ae.data.sources import files_of
from keras_ae.data.tables import ENDINGS, TABLES, Rows, as_numbers, kind_of, reading_arrow
from keras_ae.data.tfrecord import RECORD_ENDINGS, records_of
from keras_ae.data.windows import read_series, starts_of, windows
from keras_ae.errors import InputError
from keras_ae.runtime import Model

OnSkipped = Callable[[list[Problem]], None]


def inputs_of(
    model: Model, function: str, source: Any, skipped: deque[list[int]], on_skipped: OnSkipped | None
) -> tuple[int | None, Iterator[np.ndarray]]:
    """The number of rows, where the source tells, and what a function takes of them, in batches.

    Args:
        model: whose function it is, not one of windows.
        function: by name; `decode` takes latents, the others raw rows.
        source: as of `keras_ae.files.run_file`.
        skipped: gets the positions of the rows of each batch that are of no use, and zeros.
        on_skipped: is told why; None where such a row is an error.

    Raises:
        InputError: for files that can't be read, or hold what the function does not take.
        MissingExtra: as `keras_ae.files.run_file`.
    """
    files = [] if is_dataset(source) else files_of(source)
    ending = kind_of(files[0]) if files else ""
    is_table = not files or ending in TABLES
    if ending in (*IMAGE_ENDINGS, *RECORD_ENDINGS):
        if function == "decode":
            raise InputError(f"Latents must be in files of {', '.join(ENDINGS)}. Received: {files[0].name}.")
        if on_skipped is not None:
            raise InputError(f"Rows are skipped in tables alone, {' or '.join(TABLES)}. Received: {files[0].name}.")
        return _images(model, files) if ending in IMAGE_ENDINGS else (None, _records(model, files))
    if model.sequences is not None and function != "decode":
        if on_skipped is not None:
            raise InputError("Series are not skipped: each is of use, or an error.")
        return _series(model.sequences, source, files)
    if function == "decode" or not ((is_table and model.schema is not None) or on_skipped is not None):
        taken = model.columns if function != "decode" else None
        if not files:
            return None, (arranged(rows, taken, where) for where, rows in _numbers(source, model.ignored))
        total, batches = batches_of(files, model.ignored)
        return total, (arranged(rows, taken, file) for file, rows in batches)
    schema = model.schema_of_table()

    def encoded() -> Iterator[np.ndarray]:
        for cells in cells_of_source(source, model.ignored):
            x, problems = schema.encode(cells)
            if problems and on_skipped is None:
                check_problems(problems)
            bad = sorted({problem.row for problem in problems})
            if on_skipped is not None and problems:
                on_skipped(problems)
            skipped.append(bad)
            x[bad] = 0.0
            yield x

    return None, encoded()


def _series(known: Sequences, source: Any, files: list[Path]) -> tuple[int | None, Iterator[np.ndarray]]:
    """Series in the order of their channels, padded to the steps trained on."""
    total: int | None = None
    named: Iterator[tuple[str, Series]] = _of_dataset(source)
    if files:
        total, batches = batches_of(files)
        named = ((str(file), (rows.x, rows.channels or known.channels)) for file, rows in batches)
    return total, (known.padded(in_order(series, known.channels, where)) for where, series in named)


def _of_dataset(dataset: Any) -> Iterator[tuple[str, Series]]:
    with reading_arrow("The data set"):
        for batch in dataset.to_batches():
            series = series_of_arrow(batch, "The data set") if len(batch) else None
            if series is not None:
                yield "The data set", series


def raw_batches(model: Model, source: Any) -> Iterator[np.ndarray]:
    """Raw rows of a source, or windows of a series, as the model takes them, in batches."""
    if model.windowing is None:
        yield from inputs_of(model, "score", source, deque(), None)[1]
        return
    check_series(source)
    series, windowing, _ = read_series(source, model.windowing)
    yield windows(series, np.concatenate(starts_of(series, windowing)), windowing.length)


def cells_of_source(source: Any, without: tuple[str, ...] = ()) -> Iterator[Cells]:
    """Cells of the tables of a source, in batches; columns that are left out need not be there."""
    if not is_dataset(source):
        return cells_of_shards(files_of(source), without)
    table = table_of_dataset(source)
    columns = _kept(table, without)
    return (cells for unit in table.units for cells in table.cells(unit, columns))


def check_series(source: Any) -> None:
    """Raises InputError for a source that is not one file."""
    if is_dataset(source) or is_many(source):
        raise InputError(f"A series must be one file, whose rows follow one another. Received: {source}.")


def arranged(rows: Rows, columns: tuple[str, ...] | None, source: Path | str) -> np.ndarray:
    """The rows with their columns by name, in the order of those trained on."""
    if columns is None or rows.columns is None or rows.columns == columns:
        return rows.x
    check_taken(source, rows.columns, columns)
    return rows.x[:, [rows.columns.index(name) for name in columns]]


def _kept(table: ArrowTable, without: tuple[str, ...]) -> list[str]:
    kept = [name for name in table.columns if name not in without]
    if not kept:
        raise InputError(f"The data set must have a column beside {', '.join(without)}. Received: none.")
    return kept


def _numbers(dataset: Any, without: tuple[str, ...]) -> Iterator[tuple[str, Rows]]:
    """Rows of a data set of numbers."""
    for cells in cells_of_source(dataset, without):
        names = tuple(cells.columns)
        for name, column in cells.columns.items():
            if not isinstance(column, np.ndarray) or column.dtype.kind != "f":
                raise InputError(f"{cells.source}, column {name}: must be numeric. Received: {column[0]!r}.")
        x = np.column_stack([*cells.columns.values()])
        yield cells.source, Rows(as_numbers(x, cells.source, names, cells.at[0]), columns=names)


def _images(model: Model, files: list[Path]) -> tuple[int, Iterator[np.ndarray]]:
    shape = model.input_shape
    if model.raw_dtype != "uint8" or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
        raise InputError(
            "Images are for a model of images, uint8 (height, width) or (height, width, 3). "
            f"Received: one of {model.raw_dtype} {shape}."
        )
    others = [file for file in files if kind_of(file) not in IMAGE_ENDINGS]
    if others:
        raise InputError(f"All files must be images. Received: {others[0]}.")
    rows = ImageRows(tuple(files), shape, None)
    return len(files), (chunk.x for unit in range(len(rows.units)) for chunk in rows.chunks(unit))


def _records(model: Model, files: list[Path]) -> Iterator[np.ndarray]:
    if model.schema is not None:
        raise InputError(f"A table with cells that are no numbers must be {' or '.join(TABLES)}. Received: {files[0]}.")
    rows = records_of(files, None, model.ignored)
    for unit, file in enumerate(files):
        for chunk in rows.chunks(unit):
            yield arranged(Rows(chunk.x, columns=rows.columns), model.columns, file)
