"""Files of rows through a function of an artifact, into another file: reading, computing and writing at once."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_ae.alarms import alarms, alarms_of_batch, check_level
from keras_ae.data.batches import ahead
from keras_ae.data.cells import Cells
from keras_ae.data.output import check_output, ending_of, write_batches
from keras_ae.data.schema import check_problems
from keras_ae.data.tables import TABLES
from keras_ae.data.windows import read_series, spread, starts_of, windows, worst
from keras_ae.errors import InputError
from keras_ae.inputs import OnSkipped, cells_of_source, check_series, inputs_of
from keras_ae.runtime import Model

OnRows = Callable[[int, int | None], None]
_KEYS = {"x_hat": "x"}  # in a file there is but one x
_OF_ROWS = ("decode", "reconstruct")
"""Functions that give rows, and of a table a table."""


def run_file(
    model: Model,
    function: str,
    source: Any,
    out: Path | None,
    on_rows: OnRows = lambda done, total: None,
    alpha: float | None = None,
    rate: float | None = None,
    on_skipped: OnSkipped | None = None,
) -> None:
    """Runs `encode`, `decode`, `reconstruct`, `score`, `explain` or `classify` on every row of a file or of many, in
    batches.

    One thread reads, one computes, and this one writes, a few batches apart; memory does not grow with the rows,
    unless one of the files is an .npz. A table's columns are matched by name with those trained on; those that held the
    labels or were dropped may be there, and are not looked at.

    Args:
        model: from `keras_ae.runtime.load`.
        function: by name.
        source: .npy, .npz, .csv, .parquet, .tfrecord or an image; a folder of such files, or a glob, which are read in
            the order of their paths; or a `pyarrow.dataset.Dataset`.
        out: one such file, written whole or not at all; None for the standard output, as a .csv.
        on_rows: is told the rows written, and those of the file where it tells.
        alpha: of `score`: adds a column `anomaly`, 1 where the p-value is at most this.
        rate: likewise, by `keras_ae.alarms.alarms_of_batch` over all rows, whose scores are then held in memory.
        on_skipped: goes on where a row of a table can't be used, and is told why; its results are missing then.

    Raises:
        InputError: for rows that the function can't take, by their number in the file; for files that can't be read
            or written.
        MissingExtra: for images without Pillow, records without TensorFlow, .parquet and data sets without pyarrow.
    """
    check_output(out)
    model.check(function)
    check_alarms(model, function, alpha=alpha, rate=rate)
    if model.windowing is not None and function != "decode":
        return _run_series(model, function, source, out, on_rows, alpha, rate, on_skipped)
    skipped: deque[list[int]] = deque()
    total, batches = inputs_of(model, function, source, skipped, on_skipped)
    results = ahead(model.stream(function, batches))
    if on_skipped is not None:
        results = _without(results, skipped)
    if alpha is not None:
        results = (_judged(arrays, lambda p: alarms(p, alpha)) for arrays in results)
    elif rate is not None:
        results = _judged_together(results, rate)
    if function in _OF_ROWS:
        results = (as_cells(model, next(iter(arrays.values())), out) for arrays in results)
    write_batches(out, _counted(results, total, on_rows), names_of(model, function))


def run_cells(
    model: Model, function: str, cells: Cells, alpha: float | None = None, skip: bool = False
) -> dict[str, np.ndarray]:
    """The results for some rows of a table, by the names that they have in a file (`run_file`).

    Args:
        model: from `keras_ae.runtime.load`.
        function: by name.
        cells: of columns by name; of a model that was not trained on a table, and of `decode`, numbers in order.
        alpha: as of `run_file`.
        skip: whether the results of a row that can't be used are NaN; otherwise it is an error.
    """
    bad: list[int] = []
    if model.columns is None or function == "decode":
        name, taken = next(iter(model.signatures[function]["inputs"].items()))
        try:
            columns = [np.asarray(column, "float32") for column in cells.columns.values()]
            x = np.stack(columns, axis=1).reshape(-1, *taken["shape"])
        except (TypeError, ValueError) as error:
            values = math.prod(taken["shape"])
            raise InputError(
                f"{cells.source}: `{name}` must be {values:,} columns of numbers. Received: {', '.join(cells.columns)}."
            ) from error
    else:
        x, problems = model.schema_of_table().encode(cells)
        if not skip:
            check_problems(problems)
        bad = sorted({problem.row for problem in problems})
        x[bad] = 0.0
    results = next(_without(iter([model.run(function, x)]), deque([bad])))
    if alpha is not None:
        results = _judged(results, lambda p: alarms(p, alpha))
    if function in _OF_ROWS and model.schema is not None:
        return model.schema.table(next(iter(results.values())))
    return _named(results)


def check_alarms(model: Model, function: str, **levels: float | None) -> None:
    """Raises InputError for levels outside (0, 1), or a model that gives no p-values."""
    for name, level in levels.items():
        if level is not None:
            check_level(name, level)
            if "p_value" not in model.signatures[function]["outputs"]:
                raise InputError("Alarms need p-values, which this artifact's model was not calibrated for.")


def names_of(model: Model, function: str) -> tuple[str, ...] | None:
    """Names of the columns of what a function gives, where they have some."""
    if function == "classify":
        return model.classes
    return model.columns if function in (*_OF_ROWS, "explain") else None


def as_cells(model: Model, x: np.ndarray, out: Path | None) -> dict[str, np.ndarray]:
    """Raw rows by the names that they have in a file: of a table columns of cells, of series in .parquet a column of
    lists for each channel, else one array.
    """
    if model.schema is not None and ending_of(out) in TABLES:
        return model.schema.table(x)
    if model.sequences is not None and ending_of(out) == ".parquet":
        return model.sequences.lists(x)
    return {"x": x}


def _run_series(
    model: Model,
    function: str,
    source: Any,
    out: Path | None,
    on_rows: OnRows,
    alpha: float | None,
    rate: float | None,
    on_skipped: OnSkipped | None,
) -> None:
    """A time series through its windows. What is found in windows goes back to rows: of `score` the window with the
    highest one that holds a row, of `reconstruct` and `explain` the mean of all. `encode` and `classify` give a row for
    each window.
    """
    if on_skipped is not None:
        raise InputError("Rows of a series are not skipped: those of no use are gaps between windows.")
    check_series(source)
    assert model.windowing is not None
    series, windowing, _ = read_series(source, model.windowing)
    starts = np.concatenate(starts_of(series, windowing))
    length, rows = windowing.length, len(series.x)
    results = model.run(function, windows(series, starts, length))
    stamps = np.arange(rows) if series.stamps is None else np.array(series.stamps, object)
    time = windowing.time or "row"
    if function == "score":
        if alpha is not None:
            results = _judged(results, lambda p: alarms(p, alpha))
        elif rate is not None:
            results = _judged(results, lambda p: alarms_of_batch(p, rate))
        named = {time: stamps, **worst(results, "score", starts, length, rows)}
    elif function in ("reconstruct", "explain"):
        (of_windows,) = results.values()
        of_rows = spread(of_windows, starts, length, rows)
        named = {time: stamps, **dict(zip(windowing.channels, of_rows.T, strict=True))}
    else:
        ((name, of_windows),) = results.items()
        flat = of_windows.reshape(len(starts), -1)
        names = model.classes if function == "classify" else [f"{name}{i}" for i in range(flat.shape[1])]
        edges = {"start": stamps[starts], "end": stamps[starts + length - 1]}
        named = {**edges, **dict(zip(names, flat.T, strict=True))}
    if ending_of(out) in (".npy", ".npz"):
        named = {name: column for name, column in named.items() if column.dtype != object}
    write_batches(out, _counted(iter([named]), rows, on_rows))


def impute_file(
    model: Model, source: Any, out: Path | None, on_rows: OnRows = lambda done, total: None
) -> dict[str, int]:
    """A table with its missing cells filled by `Model.impute`, all else as it is, columns that the model does not look
    at among them.

    Returns:
        The cells filled, by column.
    """
    check_output(out)
    schema = model.schema_of_table()
    filled: dict[str, int] = {}

    def tables() -> Iterator[dict[str, np.ndarray]]:
        for cells in cells_of_source(source):
            x, problems = schema.encode(cells, model.ignored)
            check_problems(problems)
            table = {name: np.array(column, object) for name, column in cells.columns.items()}
            for i, (name, made) in enumerate(schema.table(model.impute(x)).items()):
                missing = np.isnan(x[:, i])
                if made.dtype != object and not isinstance(cells.columns[name], np.ndarray):
                    made = made.astype(str)  # as the other cells of a .csv are
                filled[name] = filled.get(name, 0) + int(missing.sum())
                table[name][missing] = made[missing]
            yield table

    write_batches(out, _counted(tables(), None, on_rows))
    return {name: count for name, count in filled.items() if count}


def _without(results: Iterator[dict[str, np.ndarray]], skipped: deque[list[int]]) -> Iterator[dict[str, np.ndarray]]:
    for arrays in results:
        rows = skipped.popleft()
        for array in arrays.values():
            array[rows] = np.nan
        yield arrays


def _judged(arrays: dict[str, np.ndarray], judge: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    """The results with an alarm for each row that has a p-value."""
    known = ~np.isnan(arrays["p_value"])
    anomaly = np.full(len(known), np.nan, "float32")
    anomaly[known] = judge(arrays["p_value"][known])
    return {**arrays, "anomaly": anomaly}


def _judged_together(results: Iterator[dict[str, np.ndarray]], rate: float) -> Iterator[dict[str, np.ndarray]]:
    parts = list(results)
    if parts:
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        yield _judged(whole, lambda p: alarms_of_batch(p, rate))


def _named(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {_KEYS.get(name, name): array for name, array in arrays.items()}


def _counted(
    results: Iterator[dict[str, np.ndarray]], total: int | None, on_rows: OnRows
) -> Iterator[dict[str, np.ndarray]]:
    done = 0
    for arrays in results:
        yield _named(arrays)
        done += len(next(iter(arrays.values())))
        on_rows(done, total)
