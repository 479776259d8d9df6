"""Where observations come from: data sets that packages ship, files, folders of images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.data.cells import Cells, cells_of, is_table, read_cells
from keras_ae.data.schema import Schema, check_problems, infer
from keras_ae.data.tables import TABLES, Rows, as_numbers, check_input, csv_header, open_npz, read_rows
from keras_ae.data.windows import Windowing, blocks_of, read_series
from keras_ae.errors import CellError, InputError, MissingExtra

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Source:
    """Observations to train on.

    Attributes:
        name: for the manifest.
        rows: to be split.
        test: rows that the source itself keeps for testing, or None.
        labels: the column that labels were taken from, or None.
    """

    name: str
    rows: Rows
    test: Rows | None = None
    labels: str | None = None


def load_source(
    source: Any,
    labels: str | None = None,
    schema: Schema | Mapping[str, Any] | None = None,
    drop: Sequence[str] = (),
    skip: bool = False,
    windowing: Windowing | None = None,
) -> Source:
    """Loads `digits`, `mnist`, `fashion_mnist`, `cifar10`, a file (.npy, .npz, .csv, .parquet), a folder of images,
    an array, a DataFrame or a dictionary of columns.

    A table may have categories, booleans, dates and missing cells; kinds follow from the cells (`keras_ae.data.infer`).

    Args:
        source: by name, path or as it is.
        labels: the column of a table that holds labels, which is no feature then; of an .npz, the array.
        schema: what is known of a table's columns, or all of it.
        drop: columns of a table that are left out.
        skip: leave out rows with a cell that can't be used, and note how many, instead of raising.
        windowing: take the rows as a time series, and its windows (windows, length, channels) as observations.

    Raises:
        InputError: for what is missing, empty or can't be used.
        MissingExtra: where a package that the source needs is not installed.
    """
    if windowing is not None:
        return _windows(source, windowing, labels, schema, drop, skip)
    if is_table(source):
        return _table(cells_of(source), "table", labels, schema, drop, skip)
    path = Path(source) if isinstance(source, str | Path) else None
    if path is not None and path.suffix in TABLES and not path.is_dir() and str(source) not in BUILTIN:
        check_input(path)
        if schema is None and not drop and not skip:
            try:
                return Source(path.name, read_rows(path, labels=labels), labels=labels)
            except CellError:
                if path.suffix == ".csv" and csv_header(path)[0] is None:
                    raise
        return _table(read_cells(path), path.name, labels, schema, drop, skip)
    if schema is not None or drop or skip:
        raise InputError("A schema, columns to drop and rows to skip are of a table: .csv, .parquet, or a DataFrame.")
    if labels is not None and (path is None or not path.is_file()):
        raise InputError(f"`labels` must be a column of a table. Received: {labels!r} for another source.")
    if isinstance(source, np.ndarray):
        return Source("array", Rows(as_numbers(source, "The array")))
    if str(source) in BUILTIN:
        return BUILTIN[str(source)]()
    assert path is not None
    if path.is_dir():
        return Source(path.name, _read_images(path))
    if not path.exists():
        raise InputError(
            f"No such source: {source}. It must be a file, a folder of images, or one of {', '.join(BUILTIN)}."
        )
    if path.suffix == ".npz" and labels is None:
        arrays = open_npz(path)
        if {"x_train", "x_test"} <= set(arrays):
            return _with_test(path.name, *(arrays.get(key) for key in ("x_train", "y_train", "x_test", "y_test")))
    return Source(path.name, read_rows(path, labels=labels), labels=labels)


def _table(
    cells: Cells,
    name: str,
    labels: str | None,
    schema: Schema | Mapping[str, Any] | None,
    drop: Sequence[str],
    skip: bool,
) -> Source:
    unknown = [column for column in (*drop, *([] if labels is None else [labels])) if column not in cells.columns]
    if unknown:
        known = ", ".join(cells.columns)
        raise InputError(f"{cells.source} must have a column {unknown[0]!r}. Received: {known}.")
    y = None if labels is None else _whole(cells.columns[labels])
    if not isinstance(schema, Schema):
        kept = {column: of for column, of in cells.columns.items() if column not in (*drop, labels)}
        schema = infer(replace(cells, columns=kept), schema)
        schema = replace(schema, dropped=(*schema.dropped, *drop))
    x, problems = schema.encode(cells, ignored=() if labels is None else (labels,))
    notes = list(schema.notes)
    if problems and not skip:
        check_problems(problems)
    bad = sorted({problem.row for problem in problems})
    if bad:
        if len(bad) == len(x):
            raise InputError(f"{cells.source} must have a row that can be used. {problems[0].message}")
        x, y = np.delete(x, bad, axis=0), None if y is None else np.delete(y, bad)
        notes.append(f"{len(bad):,} of {len(bad) + len(x):,} rows were skipped, the first: {problems[0].message}")
    return Source(name, Rows(x, y, schema.names, schema, tuple(notes), bool(bad)), labels=labels)


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


def _whole(cells: Any) -> np.ndarray:
    """Cells as labels: a whole number is one, whatever it was stored as."""
    y = np.empty(len(cells), object)
    y[:] = [int(cell) if isinstance(cell, float) and cell.is_integer() else cell for cell in list(cells)]
    return y


def _digits() -> Source:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingExtra("The digits data set", "train") from error
    digits = load_digits()
    return Source("digits", Rows(digits.data.astype("float32"), digits.target))


def _keras(name: str) -> Callable[[], Source]:
    def load() -> Source:
        from keras import datasets

        try:
            (x, y), (x_test, y_test) = getattr(datasets, name).load_data()
        except Exception as error:  # Keras wraps every failed download in a plain Exception
            raise InputError(f"{name} could not be downloaded: {error}") from error
        return _with_test(name, x, y.ravel(), x_test, y_test.ravel())

    return load


def _with_test(
    name: str, x: np.ndarray | None, y: np.ndarray | None, x_test: np.ndarray | None, y_test: np.ndarray | None
) -> Source:
    assert x is not None
    assert x_test is not None
    rows, test = Rows(as_numbers(x, f"{name}, x_train"), y), Rows(as_numbers(x_test, f"{name}, x_test"), y_test)
    if rows.x.shape[1:] != test.x.shape[1:]:
        raise InputError(
            f"{name}: x_train and x_test must have rows of one shape. Received: {rows.x.shape} and {test.x.shape}."
        )
    for part in (rows, test):
        if part.y is not None and len(part.y) != len(part.x):
            raise InputError(f"{name}: one label a row. Received: {len(part.y)} labels, {len(part.x)} rows.")
    return Source(name, rows, test)


def _read_images(folder: Path) -> Rows:
    """Images of one size as uint8 (rows, height, width) if all are grey, (rows, height, width, 3) if not."""
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("A folder of images", "train") from error
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise InputError(f"{folder} must hold images ({', '.join(IMAGE_ENDINGS)}). Received: none.")
    images: list[np.ndarray] = []
    for file in files:
        try:
            with Image.open(file) as image:
                mode = image.mode
                images.append(np.asarray(image.convert("L" if mode in ("1", "L") else "RGB")))
        except Exception as error:  # what Pillow raises for damaged bytes has no common base
            raise InputError(f"{file} is not a readable image: {error}") from error
        if mode[0] in "IF":  # conversion would clip them
            raise InputError(f"{file} must have 8 bits a channel; deeper images can come as .npy. Received: {mode}.")
        if images[-1].shape[:2] != images[0].shape[:2]:
            raise InputError(
                f"All images of a folder must have one size. Received: {files[0].name} of {images[0].shape[:2]} "
                f"and {file.relative_to(folder)} of {images[-1].shape[:2]}."
            )
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1) for image in images]
    labelled = all(file.parent != folder for file in files)
    labels = np.array([file.relative_to(folder).parts[0] for file in files]) if labelled else None
    return Rows(np.stack(images), labels)


BUILTIN: dict[str, Callable[[], Source]] = {
    "digits": _digits,
    "mnist": _keras("mnist"),
    "fashion_mnist": _keras("fashion_mnist"),
    "cifar10": _keras("cifar10"),
}
