"""Where observations come from: data sets that packages ship, files, folders of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.arrow import is_dataset
from keras_ae.data.cells import categories_of, cells_of, columns_of, is_table
from keras_ae.data.images import IMAGE_ENDINGS, images_of
from keras_ae.data.joining import (
    STREAMED,
    Asked,
    name_of,
    of_cells,
    of_dataset,
    of_files,
    of_reader,
    of_series,
    with_test,
)
from keras_ae.data.nested import series_of_table
from keras_ae.data.schema import Schema, as_given
from keras_ae.data.sequences import is_ragged, padded
from keras_ae.data.shards import is_many, shards
from keras_ae.data.source import Source
from keras_ae.data.tables import ENDINGS, Rows, as_numbers, kind_of
from keras_ae.data.tfrecord import RECORD_ENDINGS, records_of
from keras_ae.data.windows import Windowing, blocks_of, read_series
from keras_ae.errors import InputError, importing


def load_source(
    source: Any,
    labels: Any = None,
    schema: Schema | Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    skip: bool = False,
    windowing: Windowing | None = None,
    stream: bool | None = None,
) -> Source:
    """Loads `digits`, `mnist`, `fashion_mnist`, `cifar10`, a file (.npy, .npz, .csv, .parquet, .tfrecord), a folder or
    a glob of such files or of images, a `pyarrow.dataset.Dataset`, an array, a DataFrame or a dictionary of columns, or
    a list of series, (steps, channels) each.

    Series of different lengths are also an array (rows, steps, channels) with NaN behind the end of each, and a table
    whose cells are lists of numbers (`keras_ae.data.nested`). A table may have categories, booleans, dates and missing
    cells; kinds follow from the cells (`keras_ae.data.infer`). So may an array (rows, columns), of cells or of numbers
    some of which are NaN: it is a table of columns x0, x1, ...

    Args:
        source: by name, path or as it is.
        labels: the column of a table or feature of a record that holds labels; of an .npz, the array; or the labels of
            what is in memory themselves, (rows,).
        schema: what is known of a table's columns, or all of it.
        drop: columns of a table that are left out.
        skip: leave out rows with a cell that can't be used, and note how many, instead of raising.
        windowing: take the rows as a time series, and its windows (windows, length, channels) as observations.
        stream: whether rows of .csv, .parquet, .tfrecord, images or a data set are read anew each epoch; by default
            where there are more than 256 MB of them (`keras_ae.data.streams`).

    Raises:
        InputError: for what is missing, empty or can't be used.
        MissingExtra: where a package that the source needs is not installed.
    """
    if labels is not None and not isinstance(labels, str):
        return _labelled(load_source(source, None, schema, drop, skip, windowing, stream), np.asarray(labels))
    if windowing is not None:
        if stream:
            raise InputError("Windows of a series are not streamed: rows that follow one another must be in memory.")
        return _windows(source, windowing, labels, schema, drop, skip)
    schema = as_given(schema) if isinstance(schema, Mapping) else schema
    asked = Asked(labels, schema, tuple(drop), skip)
    source = _array_of(source) if is_ragged(source) else _as_known(source)
    if is_table(source):
        if stream:
            raise InputError(f"A stream must be of {STREAMED}. Received: a table in memory.")
        if schema is None and not skip:
            columns = columns_of(source)
            kept = {name: columns[name] for name in asked.kept(list(columns), "The table")}
            series = series_of_table(kept, "The table")
            if series is not None:
                y = None if labels is None else np.asarray(columns[labels])
                return of_series("table", Rows(series[0], y, channels=series[1]), labels)
        if not isinstance(schema, Schema):
            left_out = (*asked.drop, labels)
            known = {name: of for name, of in categories_of(source).items() if name not in left_out}
            asked = replace(asked, schema=known | dict(schema or {}))
        return of_cells([cells_of(source)], "table", asked)
    if is_dataset(source):
        return of_dataset(source, asked, stream)
    path = Path(source) if isinstance(source, str | Path) and str(source) not in BUILTIN else None
    if path is not None and (is_many(path) or kind_of(path) in (*ENDINGS, *RECORD_ENDINGS)):
        files = files_of(path)
        ending = kind_of(files[0])
        if ending in RECORD_ENDINGS and asked.is_plain:
            return of_reader(name_of(path), records_of(files, labels), labels, stream)
        if ending in IMAGE_ENDINGS and asked.is_plain and labels is None:
            return of_reader(name_of(path), images_of(path, files), None, stream)
        if ending in ENDINGS:
            return of_files(path, files, asked, stream)
    if stream:
        raise InputError(f"A stream must be of {STREAMED}. Received: {source}.")
    if schema is not None or drop or skip:
        raise InputError("A schema, columns to drop and rows to skip are of a table: .csv, .parquet, or a DataFrame.")
    if labels is not None:
        raise InputError(f"`labels` must be a column of a table. Received: {labels!r} for another source.")
    if isinstance(source, np.ndarray):
        return of_series("array", Rows(as_numbers(source, "The array")))
    if str(source) in BUILTIN:
        return BUILTIN[str(source)]()
    if path is None:
        raise InputError(
            "A source must be a name, a path, an array, a DataFrame, a dictionary of columns, a list of series or a "
            f"pyarrow.dataset.Dataset. Received: {type(source).__name__}."
        )
    if path.exists():
        endings = (*ENDINGS, *RECORD_ENDINGS)
        raise InputError(f"A file of rows must end in {', '.join(endings)}. Received: {path.name}.")
    raise InputError(
        f"No such source: {source}. It must be a file, a folder of files or images, a glob, or one of "
        f"{', '.join(BUILTIN)}."
    )


def files_of(source: str | Path) -> list[Path]:
    """The files of rows of a path, all of one kind: of a folder with images these alone.

    Raises:
        InputError: where there are none, or those of several endings.
    """
    files = shards(source, (*ENDINGS, *RECORD_ENDINGS, *IMAGE_ENDINGS))
    return [file for file in files if kind_of(file) in IMAGE_ENDINGS] or files


def _labelled(source: Source, y: np.ndarray) -> Source:
    """A source with labels (rows,) of its own."""
    if source.stream is not None or source.test is not None or source.rows.windowing or source.rows.skipped:
        raise InputError("Labels beside their source are of rows in memory that are all learned from.")
    if y.shape != (len(source.rows.x),):
        raise InputError(f"`labels` must have shape ({len(source.rows.x)},), one a row. Received: {y.shape}.")
    return replace(source, rows=replace(source.rows, y=y))


def _as_known(source: Any) -> Any:
    """What stands for an array as one, and an array of cells, or of numbers that may be missing, as a table."""
    if hasattr(source, "toarray"):
        raise InputError(f"An array must be dense. Received: {type(source).__name__}; `.toarray()` makes it so.")
    if isinstance(source, np.ma.MaskedArray):
        source = np.ma.filled(source.astype("float64"), np.nan)
    elif hasattr(source, "__array__") and not is_table(source):  # a tensor, a Series
        source = np.asarray(source)
    if not isinstance(source, np.ndarray):
        return source
    if source.dtype.names:
        return {name: source[name] for name in source.dtype.names}
    is_missing = source.dtype.kind == "f" and np.isnan(source).any() and not np.isinf(source).any()
    if source.ndim == 2 and (source.dtype.kind in "OU" or is_missing):
        return {f"x{i}": column for i, column in enumerate(source.T)}
    return source


def _array_of(series: Any) -> np.ndarray:
    """A list of series as one array: of numbers alone where all are (steps,) and of one length."""
    if isinstance(series, tuple) and len(series) == 2 and np.ndim(series[0]) > 1 and np.ndim(series[1]) == 1:
        raise InputError("Labels go beside the rows, `fit(x, labels=y)`. Received: a pair of arrays.")
    x = padded(series, "The list")
    is_flat = np.ndim(series[0]) == 1 and np.isfinite(x).all()
    return x[..., 0] if is_flat else x


def _windows(
    source: Any, windowing: Windowing, labels: str | None, schema: Any, drop: Sequence[str], skip: bool
) -> Source:
    if labels is not None or schema is not None or skip:
        raise InputError(
            "Windows of a series take no labels, no schema, and rows can't be skipped: they are gaps then."
        )
    series, windowing, notes = read_series(source, windowing, drop)
    x, groups = blocks_of(series, windowing)
    name = Path(source).name if isinstance(source, str | Path) else "series"
    return Source(name, Rows(x, notes=tuple(notes), windowing=windowing, groups=groups))


def _digits() -> Source:
    with importing("The digits data set", "train"):
        from sklearn.datasets import load_digits
    digits = load_digits()
    return Source("digits", Rows(digits.data.astype("float32"), digits.target))


def _keras(name: str) -> Callable[[], Source]:
    def load() -> Source:
        from keras import datasets

        try:
            (x, y), (x_test, y_test) = getattr(datasets, name).load_data()
        except Exception as error:  # Keras wraps every failed download in a plain Exception
            raise InputError(f"{name} could not be downloaded: {error}") from error
        return with_test(name, x, y.ravel(), x_test, y_test.ravel())

    return load


BUILTIN: dict[str, Callable[[], Source]] = {
    "digits": _digits,
    **{name: _keras(name) for name in ("mnist", "fashion_mnist", "cifar10")},
}
